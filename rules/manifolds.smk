rule learn_manifold:
    """Learn the manifold of a dataset from its training images: the manifold, the course of the learning, and pictures."""
    input:
        data="<results>/{dataset}/data.safetensors",
    output:
        manifold="<results>/{dataset}/manifolds/{manifold}/seed{seed}/manifold.safetensors",
        history="<results>/{dataset}/manifolds/{manifold}/seed{seed}/history.csv",
        pictures="<results>/{dataset}/manifolds/{manifold}/seed{seed}/pictures.safetensors",
    log:
        "<logs>/{dataset}/manifolds/{manifold}/seed{seed}/learn.log",
    benchmark:
        "<logs>/{dataset}/manifolds/{manifold}/seed{seed}/learn.tsv"
    conda:
        "../envs/learning.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=growing_from(3000),
        runtime=240,
    params:
        recipe=manifold_recipe,
    script:
        "../workflow/scripts/manifold.py"


rule manifolds:
    """All manifolds, of each dataset that they are learned from."""
    input:
        [
            f"{manifold_path(dataset, manifold, seed)}/{file}"
            for manifold in config["manifolds"]
            for dataset in GRID.learned_from(manifold)
            for seed in GRID.seeds_of(dataset)
            for file in ("manifold.safetensors", "history.csv", "pictures.safetensors")
        ],
    localrule: True
