rule measure:
    """Measure point by point how much of the explanation and of the prediction survives an attack."""
    input:
        points="<results>/{dataset}/points.safetensors",
        attacked="<results>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/inputs.safetensors",
        clean_maps=lambda wildcards: explanations(CLEAN, **dict(wildcards.items())),
        attacked_maps=lambda wildcards: explanations(wildcards.attack, **dict(wildcards.items())),
    output:
        "<results>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/robustness.csv",
    log:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/robustness.log",
    benchmark:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/robustness.tsv"
    conda:
        "../envs/tables.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(1000),
        runtime=10,
    params:
        recipe=robustness_recipe,
    script:
        "../workflow/scripts/robustness.py"


rule robustness:
    """All tables of robustness, point by point."""
    input:
        expand("{attack}/robustness.csv", attack=ALL_ATTACKS),
    localrule: True


rule outcomes:
    """Say in one table what each attack did to each network."""
    input:
        expand("{attack}/robustness.csv", attack=ALL_ATTACKS),
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
