rule explore_page:
    """Put the heat maps of two models on a page on which a reader picks what to see."""
    input:
        points=lambda wildcards: f"<results>/{config['explore'][wildcards.page]['dataset']}/points.safetensors",
        attacked=lambda wildcards: explored_inputs(wildcards.page),
        maps=lambda wildcards: explored_maps(wildcards.page),
    output:
        report("<results>/explore/{page}.html", category="Pages", labels={"page": "explore {page}"}),
    log:
        "<logs>/explore/{page}.log",
    benchmark:
        "<logs>/explore/{page}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(1000),
        runtime=10,
    params:
        recipe=explore_recipe,
    script:
        "../workflow/scripts/explore.py"


rule explore:
    """All pages to explore."""
    input:
        expand("<results>/explore/{page}.html", page=config["explore"]),
    localrule: True
