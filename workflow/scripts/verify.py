"""Say of every file in a folder of results whether it is whole, and made from what lies beside it."""

from typing import TYPE_CHECKING

from resilience import progress, verification

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
verification.main(snakemake.params.folder)
progress.finish()
