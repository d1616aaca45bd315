-- The first schema. The text runs on PostgreSQL as it stands; what SQLite wants besides is in
-- comments of the form /* sqlite: … */, which its runner opens (see schema.py).

-- Names that rows repeat by the hundred thousand: targets, sources, entries of the spec, runs.
CREATE TABLE names (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE runs (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed', 'interrupted')),
    started DOUBLE PRECISION NOT NULL,
    finished DOUBLE PRECISION,
    summary TEXT NOT NULL
);

-- The last that is known of each tag; succeeded outlives later failures.
CREATE TABLE tags (
    target INTEGER NOT NULL REFERENCES names (id),
    tag TEXT NOT NULL,
    run INTEGER NOT NULL REFERENCES names (id),
    entry INTEGER NOT NULL REFERENCES names (id),
    source INTEGER NOT NULL REFERENCES names (id),
    outcome TEXT NOT NULL CHECK (outcome IN ('copied', 'in-sync', 'skipped', 'failed', 'cancelled')),
    source_digest TEXT,
    target_digest TEXT,
    error TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    succeeded DOUBLE PRECISION,
    PRIMARY KEY (target, tag)
) /* sqlite: WITHOUT ROWID */;

-- Tags in words; place is the target's number, by which pages go on.
CREATE VIEW tag_records AS
SELECT
    r.name AS run, e.name AS entry, s.name AS source, g.name AS target, t.tag, t.outcome,
    t.source_digest, t.target_digest, t.error, t.at, t.target AS place
FROM tags t
JOIN names g ON g.id = t.target
JOIN names r ON r.id = t.run
JOIN names e ON e.id = t.entry
JOIN names s ON s.id = t.source;

CREATE TABLE repositories (
    id INTEGER PRIMARY KEY,
    registry TEXT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (registry, name)
);

-- The digest leads the key: "who has it" and "has this one got it" are then the same range, and
-- one tree serves both questions. Without a rowid the key is the table: about 90 bytes a row.
CREATE TABLE content (
    digest TEXT NOT NULL,
    repository INTEGER NOT NULL REFERENCES repositories (id),
    seen DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (digest, repository)
) /* sqlite: WITHOUT ROWID */;

CREATE TABLE subsets (
    source TEXT NOT NULL,
    platforms TEXT NOT NULL,
    target TEXT NOT NULL,
    PRIMARY KEY (source, platforms)
) /* sqlite: WITHOUT ROWID */;
