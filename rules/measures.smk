rule measure:
    """Measure point by point how much of an explanation survives an attack."""
    input:
        points="<results>/{dataset}/points.safetensors",
        clean=lambda wildcards: explained_maps(CLEAN, wildcards),
        attacked=lambda wildcards: explained_maps(wildcards.attack, wildcards),
    output:
        "<results>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/explanations/{explanation}/measures.csv",
    log:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/explanations/{explanation}.measures.log",
    benchmark:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/explanations/{explanation}.measures.tsv"
    conda:
        "../envs/tables.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(1000),
        runtime=10,
    params:
        recipe=measure_recipe,
    script:
        "../workflow/scripts/measure.py"


rule predict:
    """Predict the test points and what an attack made of them, and measure what that changed."""
    input:
        points="<results>/{dataset}/points.safetensors",
        attacked="<results>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/inputs.safetensors",
        weights=trained_weights,
        manifolds=measured_manifolds,
        judges=judging_weights,
    output:
        "<results>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/predictions.csv",
    log:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/predictions.log",
    benchmark:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/predictions.tsv"
    conda:
        "../envs/learning.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing_from(2000),
        runtime=60,
    params:
        recipe=predict_recipe,
    script:
        "../workflow/scripts/predict.py"


rule measure_explanation:
    """Measure point by point whether the explanation of clean inputs says anything of the network."""
    input:
        points="<results>/{dataset}/points.safetensors",
        weights=trained_weights,
        maps=lambda wildcards: explained_maps(CLEAN, wildcards)[-1],
        explained="<results>/{dataset}/{network}/{training}/seed{seed}/clean/n{draws}/explanations/{explanation}/explained.safetensors",
    output:
        "<results>/{dataset}/{network}/{training}/seed{seed}/clean/n{draws}/explanations/{explanation}/measures.csv",
    log:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/clean/n{draws}/explanations/{explanation}.measures.log",
    benchmark:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/clean/n{draws}/explanations/{explanation}.measures.tsv"
    conda:
        "../envs/learning.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing_from(2000),
        runtime=240,
    params:
        recipe=measure_explanation_recipe,
    script:
        "../workflow/scripts/measure_explanation.py"


rule measure_network:
    """Measure point by point what a network does around clean inputs, whatever explains it."""
    input:
        points="<results>/{dataset}/points.safetensors",
        weights=trained_weights,
    output:
        "<results>/{dataset}/{network}/{training}/seed{seed}/clean/n{draws}/network.csv",
    log:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/clean/n{draws}/network.log",
    benchmark:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/clean/n{draws}/network.tsv"
    conda:
        "../envs/learning.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing_from(2000),
        runtime=240,
    params:
        recipe=measure_network_recipe,
    script:
        "../workflow/scripts/measure_network.py"


rule measures:
    """All tables of measures, point by point."""
    input:
        ALL_TABLES,
    localrule: True


rule outcomes:
    """Say in one table what each attack did to each network."""
    input:
        ALL_UNDER_ATTACK,
    output:
        report("<results>/outcomes.csv", category="Tables", labels={"table": "outcomes"}),
    log:
        "<logs>/outcomes.log",
    benchmark:
        "<logs>/outcomes.tsv"
    conda:
        "../envs/tables.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(1000),
        runtime=10,
    params:
        recipe=outcomes_recipe,
    script:
        "../workflow/scripts/outcomes.py"


rule summary:
    """Put the mean of every measure of every explanation into one table, with its interval."""
    input:
        ALL_TABLES,
    output:
        report("<results>/measures.csv", category="Tables", labels={"table": "measures"}),
    log:
        "<logs>/summary.log",
    benchmark:
        "<logs>/summary.tsv"
    conda:
        "../envs/tables.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(2000),
        runtime=30,
    params:
        recipe=summary_recipe,
    script:
        "../workflow/scripts/summary.py"
