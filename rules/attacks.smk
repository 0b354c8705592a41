rule attack:
    """Attack the test points through a network, or through a number of draws from its posterior."""
    input:
        points="<results>/{dataset}/points.safetensors",
        weights=trained_weights,
    output:
        "<results>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/inputs.safetensors",
    log:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/attack.log",
    benchmark:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/attack.tsv"
    wildcard_constraints:
        attack=one_of(set(config["attacks"]) - TRANSFERRED - MATCHED),
    conda:
        "../envs/learning.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing_from(2000),
        runtime=240,
    params:
        recipe=attack_recipe,
    script:
        "../workflow/scripts/attack.py"


rule transfer:
    """Take over the inputs that an attack made on another network."""
    input:
        attacked_before,
    output:
        "<results>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/inputs.safetensors",
    log:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/attack.log",
    benchmark:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/attack.tsv"
    wildcard_constraints:
        attack=one_of(TRANSFERRED),
    conda:
        "../envs/tables.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(1000),
        runtime=10,
    params:
        recipe=lambda wildcards: recipe("transfer.py", attack=config["attacks"][wildcards.attack]),
    script:
        "../workflow/scripts/transfer.py"


rule match_size:
    """Shrink an attack image by image to the size that it has on another network."""
    input:
        points="<results>/{dataset}/points.safetensors",
        attacked=attacked_before,
    output:
        "<results>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/inputs.safetensors",
    log:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/attack.log",
    benchmark:
        "<logs>/{dataset}/{network}/{training}/seed{seed}/{attack}/n{draws}/attack.tsv"
    wildcard_constraints:
        attack=one_of(MATCHED),
    conda:
        "../envs/tables.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing_from(1000),
        runtime=10,
    params:
        recipe=match_size_recipe,
    script:
        "../workflow/scripts/match_size.py"


rule attacks:
    """All attacked inputs."""
    input:
        expand("{attack}/inputs.safetensors", attack=ALL_ATTACKS),
    localrule: True
