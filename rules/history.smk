# What the results say of themselves. Neither needs a run: both read what is there, whenever they are asked, so they make no
# file that could be there already, not even one of their times.


rule verify:
    """Say whether every file of the results is whole, and made from what lies beside it."""
    log:
        "<logs>/verify.log",
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
