rule retrain:
    """Train networks again without the pixels that an explanation calls important, and with these alone."""
    input:
        data="<results>/{dataset}/data.safetensors",
        weights="<results>/{dataset}/{network}/{training}/seed{seed}/weights.safetensors",
        relevance="<results>/{dataset}/{network}/{training}/seed{seed}/dataset/n{draws}/explanations/{explanation}/relevance.safetensors",
    output:
        "<results>/{dataset}/{network}/{training}/seed{seed}/dataset/n{draws}/explanations/{explanation}/retrained.csv",
    log:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/dataset/n{draws}/explanations/{explanation}_retrained.log",
    benchmark:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/dataset/n{draws}/explanations/{explanation}_retrained.tsv"
    conda:
        "../envs/learning.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing_from(4000),
        runtime=240,
    params:
        recipe=retrain_recipe,
    script:
        "../workflow/scripts/retrain.py"


rule scores:
    """Say of each explanation how well networks learn without what it calls important, and with that alone."""
    input:
        ALL_RETRAINED,
    output:
        report("<results>/scores.csv", category="Tables", labels={"table": "scores"}),
    log:
        "<logs>/scores.log",
    benchmark:
        "<logs>/scores.tsv"
    conda:
        "../envs/tables.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(2000),
        runtime=30,
    params:
        recipe=scores_recipe,
    script:
        "../workflow/scripts/scores.py"


rule retraining:
    """All networks that learned again, and the scores of the explanations."""
    input:
        ALL_RETRAINED,
        rules.scores.output,
    localrule: True
