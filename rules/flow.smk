# What the rules of this workflow are to each other, and how long their jobs took: both read off paths, as Snakemake does it.

import re

from snakemake.iocontainers import Wildcards

ONE_OF_MANY = re.compile(r"\b(seed|n)\d+\b")


def rule_that_makes(path):
    """The rule that makes a file, if one does."""
    return next((rule for rule in workflow.rules if rule.is_producer(path)), None)


def read_by(rule, path):
    """The files that a rule reads to make a file."""
    return map(str, rule.expand_input(Wildcards(fromdict=rule.get_wildcards(path)))[0])


def prefix_of(page):
    """What a workflow that imports this one puts before the names of its rules; the page is named after its rule."""
    return rule_that_makes(page).name.removesuffix(Path(page).stem)


def flow_to(page):
    """The rules that lead to a page: what each does, and which of them reads what another makes.

    Paths that differ in nothing but seed or number of draws come from the same rule, so one of them is followed.
    """
    makers, arrows, pending = {}, set(), [(rule_that_makes(page), page)]
    while pending:
        reader, path = pending.pop()
        for read in read_by(reader, path):
            kind = ONE_OF_MANY.sub(r"\1", read)
            if kind not in makers:
                makers[kind] = rule_that_makes(read)
                if makers[kind]:
                    pending.append((makers[kind], read))
            if makers[kind]:
                arrows.add((makers[kind], reader))
    prefix = prefix_of(page)
    return {
        "rules": {each.name.removeprefix(prefix): each.docstring for arrow in arrows for each in arrow},
        "arrows": sorted([each.name.removeprefix(prefix) for each in arrow] for arrow in arrows),
    }


def measured_seconds(page):
    """How long each job took that left a measurement beside its log, by rule and path; but for the page's own."""
    prefix, logs, measured = prefix_of(page), Path(page).parent, {}
    for path in sorted(logs.rglob("*.tsv")):
        maker, lines = rule_that_makes(str(path)), path.read_text(encoding="utf-8").splitlines()
        if maker not in (None, rule_that_makes(page)) and len(lines) == 2:
            job = str(path.relative_to(logs).with_suffix(""))
            measured.setdefault(maker.name.removeprefix(prefix), {})[job] = float(lines[1].split("\t")[0])
    return measured
