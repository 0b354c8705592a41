rule measure_gradients:
    """Measure how far the loss gradients of single draws from a posterior cancel in their mean."""
    input:
        data="<results>/{dataset}/data.safetensors",
        points="<results>/{dataset}/points.safetensors",
        weights=trained_weights,
    output:
        table="<results>/{dataset}/{network}/{training}/seed{seed}/cancellation.csv",
        gradients="<results>/{dataset}/{network}/{training}/seed{seed}/gradients.safetensors",
    log:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/cancellation.log",
    benchmark:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/cancellation.tsv"
    wildcard_constraints:
        training=one_of({training for _, _, training in GRID.cancelled()}),
    conda:
        "../envs/learning.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing_from(3000),
        runtime=240,
    params:
        recipe=cancellation_recipe,
    script:
        "../workflow/scripts/cancellation.py"


rule cancellation:
    """All measurements of how far gradients cancel."""
    input:
        ALL_CANCELLATIONS,
    localrule: True
