-- A state file as schema version 1 wrote it. Never change this text: it stands for files out there.
PRAGMA application_id = 1398361667;
PRAGMA user_version = 1;
CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE runs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, spec TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed', 'interrupted')),
    started DOUBLE PRECISION NOT NULL, finished DOUBLE PRECISION, summary TEXT NOT NULL
);
CREATE TABLE tags (
    target INTEGER NOT NULL REFERENCES names (id), tag TEXT NOT NULL,
    run INTEGER NOT NULL REFERENCES names (id), entry INTEGER NOT NULL REFERENCES names (id),
    source INTEGER NOT NULL REFERENCES names (id),
    outcome TEXT NOT NULL CHECK (outcome IN ('copied', 'in-sync', 'skipped', 'failed', 'cancelled')),
    source_digest TEXT, target_digest TEXT, error TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL, succeeded DOUBLE PRECISION,
    PRIMARY KEY (target, tag)
) WITHOUT ROWID;
CREATE VIEW tag_records AS
SELECT
    r.name AS run, e.name AS entry, s.name AS source, g.name AS target, t.tag, t.outcome,
    t.source_digest, t.target_digest, t.error, t.at, t.target AS place
FROM tags t
JOIN names g ON g.id = t.target
JOIN names r ON r.id = t.run
JOIN names e ON e.id = t.entry
JOIN names s ON s.id = t.source;
CREATE TABLE repositories (id INTEGER PRIMARY KEY, registry TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (registry, name));
CREATE TABLE content (
    digest TEXT NOT NULL, repository INTEGER NOT NULL REFERENCES repositories (id), seen DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (digest, repository)
) WITHOUT ROWID;
CREATE TABLE subsets (
    source TEXT NOT NULL, platforms TEXT NOT NULL, target TEXT NOT NULL, PRIMARY KEY (source, platforms)
) WITHOUT ROWID;
INSERT INTO names VALUES (1, 't.io/a'), (2, 's.io/a'), (3, 'base'), (4, '20260101T000000Z-00000000');
INSERT INTO runs VALUES (1, '20260101T000000Z-00000000', 'spec.yaml', 'done', 1767225600.0, 1767225660.0, '{"copied": 1}');
INSERT INTO tags VALUES (
    1, 'v1', 4, 3, 2, 'copied', 'sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b',
    NULL, '', 1767225650.0, 1767225650.0
);
INSERT INTO repositories VALUES (1, 't.io', 'a');
INSERT INTO content VALUES ('sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b', 1, 1767225650.0);
INSERT INTO subsets VALUES (
    'sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b', 'linux/amd64',
    'sha256:d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35'
);
