rule comparisons:
    """Compare the models pairwise, with intervals that count points and seeds."""
    input:
        robustness=expand("{attack}/robustness.csv", attack=ALL_ATTACKS),
        cancellation=ALL_CANCELLATIONS,
    output:
        report("<results>/comparisons.csv", category="Tables", labels={"table": "comparisons"}),
    log:
        "<logs>/comparisons.log",
    benchmark:
        "<logs>/comparisons.tsv"
    conda:
        "../envs/tables.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(2000),
        runtime=30,
    params:
        recipe=comparisons_recipe,
    script:
        "../workflow/scripts/comparisons.py"


FIXED_CLASS = sorted(name for name, rule in config["lrp"].items() if rule["explained"] == "clean")


rule claims:
    """Judge each claim of the paper: holds, reversed or inconclusive."""
    input:
        "<results>/comparisons.csv",
    output:
        report("<results>/claims.csv", category="Tables", labels={"table": "claims"}),
    log:
        "<logs>/claims.log",
    benchmark:
        "<logs>/claims.tsv"
    conda:
        "../envs/tables.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(1000),
        runtime=10,
    params:
        recipe=recipe(
            "claims.py",
            **config["claims"],
            fixed_class=FIXED_CLASS,
            matched_size=sorted(MATCHED),
            noise=sorted(NOISY),
        ),
    script:
        "../workflow/scripts/claims.py"
