rule report:
    """Put verdicts, figures and the state of every network on one page."""
    input:
        claims="<results>/claims.csv",
        figures=expand("<results>/figures/{figure}.png", figure=config["figures"]),
        fits=expand("{model}/fit.json", model=ALL_MODELS),
    output:
        "<results>/report.html",
    log:
        "<logs>/report.log",
    benchmark:
        "<logs>/report.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(1000),
        runtime=10,
    params:
        recipe=report_recipe,
    script:
        "../workflow/scripts/report.py"
