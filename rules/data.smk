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
        recipe=lambda wildcards: recipe(
            "points.py", count=config["datasets"][wildcards.dataset]["test_points"]
        ),
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
