rule train:
    """Train a network: its weights, the course of the training, its accuracy and diagnostics."""
    input:
        data="<results>/{dataset}/data.safetensors",
        start=start_weights,
        own=lambda wildcards: own_files("trainings", wildcards.training, wildcards),
    output:
        weights="<results>/{dataset}/{network}/{training}/seed{seed}/weights.safetensors",
        history="<results>/{dataset}/{network}/{training}/seed{seed}/history.csv",
        fit="<results>/{dataset}/{network}/{training}/seed{seed}/fit.json",
    log:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/train.log",
    benchmark:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/train.tsv"
    conda:
        "../envs/learning.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing_from(3000),
        runtime=240,
    params:
        recipe=training_recipe,
    script:
        "../workflow/scripts/train.py"


rule weights:
    """All trained networks."""
    input:
        expand("{model}/{file}", model=ALL_MODELS, file=["weights.safetensors", "history.csv", "fit.json"]),
    localrule: True
