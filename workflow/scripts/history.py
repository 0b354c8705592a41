"""Print all that an artifact goes back to."""

from typing import TYPE_CHECKING

from resilience import lineage, progress

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
lineage.main(snakemake.params.of, snakemake.params.form)
progress.finish()
