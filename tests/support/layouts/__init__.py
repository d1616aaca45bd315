"""What is wrong with content on the disk, as typed findings, and what its tags stand for.

    read_layout(path).findings                # as other tools see an OCI image layout: by index.json alone
    read_layout(path, journal=True).findings  # with the journal beside it, and still by none of our code
    assert_valid(root)                        # every layout below, whole

:mod:`.findings` is what can be wrong, :mod:`.reading` the reader of layouts, :mod:`.opened` what Syncer itself
makes of one, :mod:`.directories` the reader of Skopeo's ``dir``.
"""
