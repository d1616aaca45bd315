-- Uploads of large blobs that were begun and not ended, so that the run after a kill goes on with them. The
-- location is one that is no credential: see syncer/registry/unfinished.py.

CREATE TABLE uploads (
    registry TEXT NOT NULL,
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    location TEXT NOT NULL,
    confirmed BIGINT NOT NULL CHECK (confirmed >= 0),
    at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (registry, repository, digest)
) /* sqlite: WITHOUT ROWID */;
