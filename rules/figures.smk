rule figure:
    """Draw a figure from tables and heat maps."""
    input:
        measured=lambda wildcards: figure_input("measured", wildcards.figure),
        summary=lambda wildcards: figure_input("summary", wildcards.figure),
        images=lambda wildcards: figure_input("images", wildcards.figure),
        maps=lambda wildcards: figure_input("maps", wildcards.figure),
        cancellation=lambda wildcards: figure_input("cancellation", wildcards.figure),
        gradients=lambda wildcards: figure_input("gradients", wildcards.figure),
        fits=lambda wildcards: figure_input("fits", wildcards.figure),
        weights=lambda wildcards: figure_input("weights", wildcards.figure),
        projections=lambda wildcards: figure_input("projections", wildcards.figure),
        comparisons=lambda wildcards: figure_input("comparisons", wildcards.figure),
        claims=lambda wildcards: figure_input("claims", wildcards.figure),
        scores=lambda wildcards: figure_input("scores", wildcards.figure),
    output:
        png=report(
            "<results>/figures/{figure}.png",
            category="Figures",
            labels=lambda wildcards: {
                "figure": wildcards.figure,
                "shows": figure_function(wildcards.figure).summary,
            },
        ),
        pdf="<results>/figures/{figure}.pdf",
    log:
        "<logs>/figures/{figure}.log",
    benchmark:
        "<logs>/figures/{figure}.tsv"
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(1000),
        runtime=10,
    params:
        recipe=figure_recipe,
    script:
        "../workflow/scripts/figure.py"


PICTURES = ["<results>/figures/{figure}.png", "<results>/figures/{figure}.pdf"]


rule figures:
    """All figures."""
    input:
        expand(PICTURES, figure=config["figures"]),
    localrule: True


# Each figure is a target by its name.
for FIGURE in config["figures"]:

    rule:
        """A figure of the config, as PNG and PDF."""
        name:
            FIGURE
        input:
            expand(PICTURES, figure=FIGURE),
        localrule: True

    getattr(rules, FIGURE).rule.docstring = figure_function(FIGURE).summary
