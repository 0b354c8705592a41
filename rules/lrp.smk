# The layers, and so the files, depend on the network: a rule for each.
for NETWORK in config["networks"]:

    rule:
        """Explain inputs by one LRP rule: heat maps of every layer, averaged over draws."""
        name:
            f"explain_{NETWORK}"
        input:
            points="<results>/{dataset}/points.safetensors",
            inputs=explained_inputs,
            weights="<results>/{dataset}/{network}/{training}/seed{seed}/weights.safetensors",
        output:
            maps=expand(
                "<results>/{{dataset}}/{{network}}/{{training}}/seed{{seed}}/"
                "{{inputs}}/n{{draws}}/lrp/{{rule}}/layer{layer}.safetensors",
                layer=GRID.layers(NETWORK),
            ),
            explained="<results>/{dataset}/{network}/{training}/seed{seed}/{inputs}/n{draws}/lrp/{rule}/explained.safetensors",
        log:
            "<logs>/{dataset}/{network}/{training}/seed{seed}/{inputs}/n{draws}/lrp/{rule}.log",
        benchmark:
            "<logs>/{dataset}/{network}/{training}/seed{seed}/{inputs}/n{draws}/lrp/{rule}.tsv"
        wildcard_constraints:
            network=NETWORK,
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


rule lrp:
    """All heat maps, of clean and of attacked inputs."""
    input:
        ALL_MAPS,
    localrule: True
