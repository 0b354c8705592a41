rule report:
    """Put verdicts, figures and the state of every network on one page."""
    input:
        claims=JUDGED,
        outcomes="<results>/outcomes.csv",
        figures=expand("<results>/figures/{figure}.png", figure=config["figures"]),
        fits=expand("{model}/fit.json", model=ALL_MODELS),
        histories=expand("{model}/history.csv", model=ALL_MODELS),
    output:
        report("<results>/report.html", category="Pages", labels={"page": "report"}),
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


# A page of its own, outside of the results: times differ from run to run, and what is built must not.
rule times:
    """Put the run times of all jobs so far on a page beside the logs."""
    output:
        "<logs>/times.html",
    log:
        "<logs>/times.log",
    benchmark:
        "<logs>/times.tsv"
    localrule: True
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(1000),
        runtime=10,
    params:
        measured=times_recipe,
    script:
        "../workflow/scripts/times.py"
