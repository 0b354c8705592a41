rule comparisons:
    """Compare the models pairwise, with intervals that count points and seeds."""
    input:
        measured=ALL_UNDER_ATTACK,
        cancellation=ALL_CANCELLATIONS,
        networks=ALL_COMPARED_NETWORKS,
        retrained=ALL_RETRAINED,
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


rule claims:
    """Judge each claim: holds, reversed or inconclusive."""
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
        recipe=claims_recipe,
    script:
        "../workflow/scripts/claims.py"
