"""Registries that fail as a test says: exchanges, connections, and time.

    internet = Internet()                                        # all sites on one loopback port
    source, target = Model(internet, "source.example"), Model(internet, "target.example", tokens=True)
    source.keep("app", images.image(), "v1")
    Injector(internet).at(Step.PUT, LOST_ANSWER).random(seed, 0.01, SURVIVABLE)
    report = virtually(synced(internet, spec, base))             # no second is waited for
    for entry in internet.history.entries: ...                   # exchanges and changes, in order

:mod:`.model` is the registry, :mod:`.injection` decides what goes wrong where, :mod:`.exchanges` is the
catalogue of faults, :mod:`.connections` a proxy in front of servers that are not ours,
:mod:`.virtual_time` the loop, :mod:`.syncing` runs Syncer on it. :mod:`.invariants` says what a run has broken,
:mod:`.judging` judges runs on an internet by it and :mod:`.embedded` embedded registries; :mod:`.footprint` measures
memory and open files. ``python -m tests.support.faults`` serves such registries to processes.
"""
