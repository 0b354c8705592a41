# What a run says at its end: where the results lie, or what failed and why.

import atexit
import re
import time

from snakemake.logging import logger

STARTED = time.time()
KILLED_BY_SLURM = re.compile(
    r"^slurmstepd.*?error: (.*(?:memory limit|oom_kill|TIME LIMIT|NODE FAILURE).*)$", re.M
)
LOG_OF_STARTED = re.compile(r"^localrule\b.*\n(?:    .*\n)*?    log: (\S+)", re.M)


def say_how_to_keep(record):
    """Of this workflow's jobs neither times nor records decide, as Snakemake says that they may, but what files say."""
    if "--cleanup-metadata" in record.getMessage():
        record.msg, record.args = (
            "What differs stands under 'reason' (docs/artifacts.md). If you know that a change changes no result,"
            " snakemake --touch keeps what is there.",
            (),
        )
    return True


def silence():
    """What to say where results do not tell what they were made from; nothing where they do."""
    if not persistence.JUDGE.silent:
        return ""
    return (
        f"{min(persistence.JUDGE.silent)}, for one, does not say what it was made from: an earlier version of this workflow"
        " wrote it. `snakemake --touch` takes what is there for what the config now asks for, if you know that it is. To have"
        " all made anew, delete it, or name another folder with the key results of the config."
    )


def tell_of_histories():
    """Say after a plan what was found out about what is there and no job shows."""
    lines = [silence()] if workflow.dryrun else []
    for (package, then, now), count in sorted(persistence.JUDGE.other_versions.items()):
        lines.append(f"{count} files were made with {package} {then}; here it is {now}. They are kept.")
    print(*filter(None, lines), sep="\n", end="\n" if any(lines) else "", file=sys.stderr)


def refuse_silent_artifacts():
    """End before any job where results do not tell what made them, so that nobody loses them without a word."""
    if (problem := silence()) and not workflow.touch:
        raise WorkflowError(f"Nothing was run. {problem}")


def announce_results():
    """Say where the figures, the claims and the report lie, as far as they exist."""
    places = {
        "Figures": "<results>/figures",
        "Claims": "<results>/claims.csv",
        "Report": "<results>/report.html",
        "Explore": "<results>/explore",
        "Published numbers beside ours": "<results>/reproduction.png",
    }
    for name, pattern in places.items():
        place = workflow.inputfile(workflow.pathvars.apply(pattern))
        if exists(place):
            address = place.storage_object.query if place.is_storage else place
            print(f"{name}:".ljust(8), address, file=sys.stderr)
    if (claims := lying_here("<results>/claims.csv")).exists() and is_new(claims):
        print(verdicts(claims), file=sys.stderr)
    if (numbers := lying_here("<results>/reproduction.csv")).exists() and is_new(numbers):
        print(agreement(numbers), file=sys.stderr)


def lying_here(pattern):
    """Where a file or folder of this run lies on this machine: of what lies in a storage, the copy that jobs work on."""
    return Path(workflow.inputfile(workflow.pathvars.apply(pattern)))


def verdicts(path):
    """In how many settings each claim holds, as a table."""
    import pandas as pd

    from resilience.verdicts import HOLDS, INCONCLUSIVE, REVERSED, summarise

    claims = summarise(pd.read_csv(path))
    if not claims:
        return "\nNo claim could be judged: no Bayesian training here has another one beside it."
    lines = [f"{HOLDS:>5} {REVERSED:>8} {INCONCLUSIVE:>12}  In how many settings the claim"]
    for claim in claims:
        counts = f"{claim[HOLDS]:5} {claim[REVERSED]:8} {claim[INCONCLUSIVE]:12}"
        lines.append(f"{counts}  {claim['sentence']}")
    return "\n".join(["", *lines])


def agreement(path):
    """How many of the published numbers agree with those of each run, as a table."""
    import pandas as pd

    from resilience.reproduction import summarise

    counts = summarise(pd.read_csv(path, keep_default_na=False), ["paper", "published"])
    return "\n".join(
        ["", "How many published numbers agree with ours, by the definitions of the run", str(counts)]
    )


def is_new(path):
    """Whether a file was written in this run."""
    return path.stat().st_mtime >= STARTED


def announce_failures():
    """Say of each job that failed in this run what the cause was and where its log lies, as the last lines of the run."""
    recent = {path for path in lying_here("<logs>").rglob("*.log") if is_new(path)}
    killed = killed_by_slurm()
    failed = {path: cause for path in sorted(recent | set(killed)) if (cause := cause_of(path, killed))}
    lines = [f"Failed: {cause}\n  Log: {path}" for path, cause in failed.items()]
    if in_the_way := running.obstacle(WRITTEN):
        lines.append(in_the_way)
    if lines:
        atexit.register(print, "\n".join(["", *lines]), file=sys.stderr)


def say_what_to_do(record):
    """Let the log say what is in the way of files that cannot be written; Snakemake would list those files alone."""
    if getattr(record, "exception", "") == "ProtectedOutputException":
        files = record.getMessage().partition("affected files:")[2].strip().splitlines()
        each = "\n".join(running.locked(file.strip()) for file in files)
        record.msg, record.args = running.obstacle(WRITTEN) or each, ()
    return True


def cause_of(path, killed):
    """The cause that a job wrote into its log, or Slurm into its own; None if the job ended well."""
    text = path.read_text(errors="replace", encoding="utf-8") if path.exists() else ""
    if causes := [line.split("cause: ", 1)[1] for line in text.splitlines() if "cause: " in line]:
        return causes[-1]
    if "done, peak memory" in text:
        return None
    return killed.get(
        path, "the job ended without saying why; it may have been killed, for lack of memory, say"
    )


def killed_by_slurm():
    """The logs of jobs that were running when Slurm killed them in this run, and what it said."""
    killed = {}
    for slurm_log in filter(is_new, Path(".snakemake/slurm_logs").rglob("*.log")):
        text = slurm_log.read_text(errors="replace", encoding="utf-8")
        if said := KILLED_BY_SLURM.findall(text):
            # It says so in several lines, in any order; the longest says most.
            cause = f"Slurm killed the job: {max(said, key=len)}"
            killed |= dict.fromkeys(map(Path, LOG_OF_STARTED.findall(text)), cause)
    return killed
