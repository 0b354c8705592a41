# The layers, and so the files, depend on the network, and on whether an explanation has layers: a rule for each of both.
EXPLAINED = {
    (network, GRID.explained_layers(network, explanation))
    for network in config["networks"]
    for explanation in config["explanations"]
}


for NETWORK, LAYERS in sorted(EXPLAINED):

    rule:
        """Explain inputs: heat maps of the layers, over draws."""
        name:
            f"explain_{NETWORK}" + ("" if LAYERS == GRID.layers(NETWORK) else "_output")
        input:
            points="<results>/{dataset}/points.safetensors",
            inputs=explained_inputs,
            weights=trained_weights,
        output:
            maps=expand(
                "<results>/{{dataset}}/{{network}}/{{training}}/seed{{seed}}/"
                "{{inputs}}/n{{draws}}/explanations/{{explanation}}/layer{layer}.safetensors",
                layer=LAYERS,
            ),
            explained="<results>/{dataset}/{network}/{training}/seed{seed}/"
            "{inputs}/n{draws}/explanations/{explanation}/explained.safetensors",
        log:
            "<logs>/{dataset}/{network}/{training}/seed{seed}/{inputs}/n{draws}/explanations/{explanation}.log",
        benchmark:
            "<logs>/{dataset}/{network}/{training}/seed{seed}/{inputs}/n{draws}/explanations/{explanation}.tsv"
        wildcard_constraints:
            network=NETWORK,
            explanation=one_of(
                name for name in config["explanations"] if GRID.explained_layers(NETWORK, name) == LAYERS
            ),
        conda:
            "../envs/learning.yaml"
        threads: 1
        resources:
            gpu=1,
            mem_mb=growing_from(2000),
            runtime=240,
        params:
            recipe=explain_recipe,
        script:
            "../workflow/scripts/explain.py"


rule explanations:
    """All heat maps, of clean and of attacked inputs."""
    input:
        ALL_MAPS,
    localrule: True
