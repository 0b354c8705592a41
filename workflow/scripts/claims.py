"""Judge the claims."""

from resilience import fork_server

fork_server.hand_over(start=False)

from typing import TYPE_CHECKING

from resilience import artifacts, catalog, jobs, progress, verdicts
from resilience.compared import Compared

if TYPE_CHECKING:
    import pandas as pd
    from snakemake.iocontainers import snakemake

progress.start(snakemake.log[0])
settings = jobs.settings_of(snakemake)
history = jobs.history_of(snakemake)
known = (
    *("explanation", "measure", "by_rules", "otherwise", "of_clean_class", "matched_size", "noise", "outputs"),
    "methods",
)
compared = Compared(artifacts.read_table(snakemake.input[0]), **{key: settings[key] for key in known})


def rows_of(claim: str) -> "pd.DataFrame":
    """The comparisons that decide a claim."""
    return catalog.bound("statements", {"claim": claim})(compared=compared)


table = verdicts.judge(dict(settings["judged"]), rows_of, settings["confidence"])
artifacts.write_table(snakemake.output[0], table, history)
progress.finish()
