-- Tags may be deferred: a registry's allowance was used up. A check cannot be changed, so the table is
-- made anew; nothing refers to it but the view.

DROP VIEW tag_records;

CREATE TABLE tags_with_deferred (
    target INTEGER NOT NULL REFERENCES names (id),
    tag TEXT NOT NULL,
    run INTEGER NOT NULL REFERENCES names (id),
    entry INTEGER NOT NULL REFERENCES names (id),
    source INTEGER NOT NULL REFERENCES names (id),
    outcome TEXT NOT NULL CHECK (outcome IN ('copied', 'in-sync', 'skipped', 'failed', 'deferred', 'cancelled')),
    source_digest TEXT,
    target_digest TEXT,
    error TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    succeeded DOUBLE PRECISION,
    PRIMARY KEY (target, tag)
) /* sqlite: WITHOUT ROWID */;

INSERT INTO tags_with_deferred (
    target, tag, run, entry, source, outcome, source_digest, target_digest, error, at, succeeded
)
SELECT target, tag, run, entry, source, outcome, source_digest, target_digest, error, at, succeeded FROM tags;

DROP TABLE tags;

ALTER TABLE tags_with_deferred RENAME TO tags;

CREATE VIEW tag_records AS
SELECT
    r.name AS run, e.name AS entry, s.name AS source, g.name AS target, t.tag, t.outcome,
    t.source_digest, t.target_digest, t.error, t.at, t.target AS place
FROM tags t
JOIN names g ON g.id = t.target
JOIN names r ON r.id = t.run
JOIN names e ON e.id = t.entry
JOIN names s ON s.id = t.source;
