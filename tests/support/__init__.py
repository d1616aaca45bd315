"""What tests are built of, by what it stands for.

Content
    :mod:`.images` builds images, indexes and artifacts, :mod:`.random_images` whole repositories of odd ones,
    :mod:`.large` blobs of any size; :mod:`.transfer` moves them, :mod:`.mutating` spoils documents.
Registries
    :mod:`.scripted` answers as a test says, :mod:`.registry_script` by a table; :mod:`.memory` is the engine's, without
    a socket; :mod:`.guarded` checks tokens, which :mod:`.token_service` gives; :mod:`.uploading` takes uploads in every
    form; :mod:`.single_replies` is aioresponses; :mod:`.docker_registry` has Debian's registry and skopeo.
    :mod:`.personalities` imitates real ones on an internet of its own, :mod:`.faults` lets those fail.
Between client and registry
    :mod:`.gate` holds requests up, :mod:`.faults.connections` spoils connections, :mod:`.proxying` is an HTTP proxy;
    :mod:`.streams` serves bare connections. :mod:`.authority` and :mod:`.certificates` make certificates.
Runs and processes
    :mod:`.world` runs Syncer between embedded registries, and judges it; :mod:`.commands` runs it as a process,
    :mod:`.forks` as one that dies at its :mod:`.failpoints`; :mod:`.observing` hears events, :mod:`.careless` is a
    client without rules.
The machine
    :mod:`.filesystems` are small disks, :mod:`.resources` what a process holds, :mod:`.layouts` what is on a disk and
    what is wrong with it. :mod:`.searching` says how long hypothesis looks.
"""
