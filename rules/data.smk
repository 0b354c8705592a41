DERIVED = {name for name in config["datasets"] if GRID.source(name)}


rule dataset:
    """Read or download a dataset and split it into train, validation and test."""
    input:
        lambda wildcards: own_files("datasets", wildcards.dataset, wildcards),
    output:
        "<results>/{dataset}/data.safetensors",
    log:
        "<logs>/{dataset}/dataset.log",
    benchmark:
        "<logs>/{dataset}/dataset.tsv"
    wildcard_constraints:
        dataset=one_of(set(config["datasets"]) - DERIVED),
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(2000),
        runtime=30,
    params:
        recipe=dataset_recipe,
    script:
        "../workflow/scripts/dataset.py"


rule explain_dataset:
    """Explain every image of a dataset."""
    input:
        data="<results>/{dataset}/data.safetensors",
        weights="<results>/{dataset}/{network}/{training}/seed{seed}/weights.safetensors",
    output:
        "<results>/{dataset}/{network}/{training}/seed{seed}/dataset/n{draws}/explanations/{explanation}/relevance.safetensors",
    log:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/dataset/n{draws}/explanations/{explanation}.log",
    benchmark:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/dataset/n{draws}/explanations/{explanation}.tsv"
    conda:
        "../envs/learning.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing_from(4000),
        runtime=240,
    params:
        recipe=explain_dataset_recipe,
    script:
        "../workflow/scripts/explain_dataset.py"


rule derive:
    """Make a dataset from another one, by changing its images."""
    input:
        source=lambda wildcards: f"<results>/{GRID.source(wildcards.dataset)}/data.safetensors",
        relevance=explained_before,
    output:
        "<results>/{dataset}/data.safetensors",
    log:
        "<logs>/{dataset}/dataset.log",
    benchmark:
        "<logs>/{dataset}/dataset.tsv"
    wildcard_constraints:
        dataset=one_of(DERIVED),
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(4000),
        runtime=120,
    params:
        recipe=derive_recipe,
    script:
        "../workflow/scripts/derive.py"


rule choose_points:
    """Choose the test points that are attacked and explained, balanced by class."""
    input:
        "<results>/{dataset}/data.safetensors",
    output:
        "<results>/{dataset}/points.safetensors",
    log:
        "<logs>/{dataset}/points.log",
    benchmark:
        "<logs>/{dataset}/points.tsv"
    conda:
        "../envs/tables.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(1000),
        runtime=10,
    params:
        recipe=points_recipe,
    script:
        "../workflow/scripts/points.py"


rule datasets:
    """All datasets that an experiment names, split."""
    input:
        expand("<results>/{dataset}/data.safetensors", dataset=ALL_DATASETS),
    localrule: True


rule points:
    """All test points that are attacked and explained."""
    input:
        expand("<results>/{dataset}/points.safetensors", dataset=ALL_DATASETS),
    localrule: True
