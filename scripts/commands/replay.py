"""Recompute a recorded run."""

from scripts.command import JSON, RECORDED_RULE, Command, Option

COMMAND = Command(
    main="scripts.run.replay:main",
    description=(
        "Decides again from the record of a run and compares, so that every decision can be checked later. "
        "Exits with 1 if the record differs."
    ),
    options=(
        Option(
            name="RUN",
            meaning=(
                "latest, a slot such as 20221228T2045Z, a file, or "
                "s3://BUCKET/runs/STRATEGY/DAY/SLOT.json (default: latest)"
            ),
            metavar="RUN",
        ),
        Option(
            name="JOURNAL",
            meaning="where the record is: folder:PATH or s3://bucket/prefix (default: folder:out/journal)",
            metavar="PLACE",
        ),
        Option(name="STRATEGY", meaning="the strategy whose journal it is (default: trend)", metavar="NAME"),
        RECORDED_RULE,
        JSON,
    ),
)
