# The way in: settings, stages, and the targets that have names.
# `snakemake --list-target-rules` shows what can be asked for; any file below results/ can be asked for by its path, too.
# Nouns are targets: all weights, attacks, claims. Verbs are the jobs that make one of these: train, attack, measure.


include: "rules/common.smk"
include: "rules/messages.smk"


if "reproduction" in config:

    # Two runs beside each other, each this workflow as a module.
    include: "rules/reproduction.smk"

    rule all:
        """Figures, claims and reports of both runs, and the published numbers beside theirs."""
        default_target: True
        input:
            rules.reproduction.input,
            rules.paper_all.input,
            rules.published_all.input,
        localrule: True

else:
    if has_no_config():

        configfile: str(default_config())

    include: "rules/settings.smk"
    include: "rules/inputs.smk"
    include: "rules/flow.smk"
    include: "rules/recipes.smk"
    include: "rules/data.smk"
    include: "rules/training.smk"
    include: "rules/attacks.smk"
    include: "rules/explanations.smk"
    include: "rules/measures.smk"
    include: "rules/figures.smk"
    include: "rules/explore.smk"
    include: "rules/report.smk"
    include: "rules/history.smk"

    if config["manifolds"]:

        include: "rules/manifolds.smk"

    if "claims" in config:

        include: "rules/claims.smk"

    if "cancellation" in config:

        include: "rules/cancellation.smk"

    if "retraining" in config:

        include: "rules/retraining.smk"

    rule all:
        """Everything: figures, claims, outcomes, the report and the pages to explore."""
        default_target: True
        input:
            rules.figures.input,
            JUDGED,
            SCORED,
            rules.outcomes.output,
            rules.summary.output,
            rules.report.output,
            rules.explore.input,
        localrule: True


for defined in workflow.rules:
    for function in filter(callable, [*defined.input, *defined.params]):
        with_known_arguments(function)

if workflow.modifier.is_main_snakefile() and workflow.exec_mode == ExecMode.DEFAULT:
    running.forget_the_killed(WRITTEN)
    logger.addFilter(say_what_to_do)
    logger.addFilter(say_how_to_keep)
    atexit.register(tell_of_histories)


onstart:
    refuse_silent_artifacts()
    try:
        running.begin(WRITTEN, local=workflow.local_exec)
    except running.RunError as error:
        raise WorkflowError(str(error)) from None
    if workflow.local_exec:
        fork_server.offer()
        hand_scripts_over_early()
        devices.offer()
        # For the sake of its limit of jobs per second, Snakemake 9 sets a timer whenever it looks for jobs, which makes it
        # look again a second later, and so on: after some hundred jobs that takes half a core. No limit, no timers.
        workflow.scheduler.job_rate_limiter = None


onsuccess:
    announce_results()


onerror:
    announce_failures()
