# What the results say of themselves. Neither needs a run: both read what is there.


rule verify:
    """Say whether every file of the results is whole, and made from what lies beside it."""
    log:
        "<logs>/verify.log",
    benchmark:
        "<logs>/verify.tsv"
    localrule: True
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(1000),
        runtime=30,
    params:
        folder=RESULTS,
    script:
        "../workflow/scripts/verify.py"


rule history:
    """Print all that one file goes back to: --config of=FILE, as text, or form=prov as PROV-JSON."""
    log:
        "<logs>/history.log",
    benchmark:
        "<logs>/history.tsv"
    localrule: True
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(1000),
        runtime=30,
    params:
        of=ASKED.get("of"),
        form=ASKED.get("form", "text"),
    script:
        "../workflow/scripts/history.py"
