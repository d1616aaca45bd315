-- Every query of the store, by name. The text runs on SQLite and on PostgreSQL: upserts, named
-- parameters, no functions that only one of them has. "IN (:digests)" is widened to as many
-- parameters as there are values (see statements.py).

-- add_name --
INSERT INTO names (id, name)
SELECT coalesce(max(id), 0) + 1, :name FROM names WHERE true
ON CONFLICT DO NOTHING;

-- add_repository --
INSERT INTO repositories (id, registry, name)
SELECT coalesce(max(id), 0) + 1, :registry, :repository FROM repositories WHERE true
ON CONFLICT DO NOTHING;

-- record_tag --
INSERT INTO tags (target, tag, run, entry, source, outcome, source_digest, target_digest, error, at, succeeded)
VALUES (
    (SELECT id FROM names WHERE name = :target),
    :tag,
    (SELECT id FROM names WHERE name = :run),
    (SELECT id FROM names WHERE name = :entry),
    (SELECT id FROM names WHERE name = :source),
    :outcome, :source_digest, :target_digest, :error, :at, :succeeded
)
ON CONFLICT (target, tag) DO UPDATE SET
    run = excluded.run,
    entry = excluded.entry,
    source = excluded.source,
    outcome = excluded.outcome,
    source_digest = excluded.source_digest,
    target_digest = excluded.target_digest,
    error = excluded.error,
    at = excluded.at,
    succeeded = coalesce(excluded.succeeded, tags.succeeded);

-- record_content --
INSERT INTO content (digest, repository, seen)
VALUES (:digest, (SELECT id FROM repositories WHERE registry = :registry AND name = :repository), :seen)
ON CONFLICT (digest, repository) DO UPDATE SET seen = excluded.seen;

-- forget_content --
DELETE FROM content
WHERE digest = :digest
  AND repository = (SELECT id FROM repositories WHERE registry = :registry AND name = :repository);

-- record_subset --
INSERT INTO subsets (source, platforms, target)
VALUES (:source, :platforms, :target)
ON CONFLICT (source, platforms) DO UPDATE SET target = excluded.target;

-- interrupt_runs --
UPDATE runs SET status = 'interrupted' WHERE status = 'running';

-- begin_run --
INSERT INTO runs (number, id, spec, status, started, summary)
SELECT coalesce(max(number), 0) + 1, :id, :spec, 'running', :started, '{}' FROM runs;

-- finish_run --
UPDATE runs SET status = :status, finished = :finished, summary = :summary WHERE id = :id;

-- runs --
SELECT id, spec, status, started, finished, summary FROM runs ORDER BY number DESC LIMIT :limit;

-- tags_after --
SELECT run, entry, source, target, tag, outcome, source_digest, target_digest, error, at, place FROM tag_records
WHERE target = :target AND tag > :after
ORDER BY tag
LIMIT :limit;

-- tags_named --
SELECT run, entry, source, target, tag, outcome, source_digest, target_digest, error, at, place FROM tag_records
WHERE target = :target AND tag IN (:tags);

-- unresolved_of --
SELECT run, entry, source, target, tag, outcome, source_digest, target_digest, error, at, place FROM tag_records
WHERE target = :target AND outcome IN ('failed', 'deferred', 'cancelled') AND tag <> '';

-- last_words --
SELECT run, entry, source, target, tag, outcome, source_digest, target_digest, error, at, place FROM tag_records
WHERE target = :target AND tag IN (:tags)
  AND outcome IN ('copied', 'in-sync')
  AND (SELECT number FROM runs WHERE id = tag_records.run) >= (
      SELECT coalesce(max(number), 0) FROM runs WHERE status = 'interrupted' AND finished IS NULL
  );

-- failures_after --
SELECT run, entry, source, target, tag, outcome, source_digest, target_digest, error, at, place FROM tag_records
WHERE run = :run AND outcome = 'failed' AND (place, tag) > (:place, :after)
ORDER BY place, tag
LIMIT :limit;

-- unresolved_targets --
SELECT DISTINCT g.name, CASE t.outcome WHEN 'failed' THEN t.tag ELSE '' END
FROM tags t
JOIN names g ON g.id = t.target
WHERE t.outcome IN ('failed', 'deferred', 'cancelled') AND t.tag <> '';

-- unresolved_after --
SELECT run, entry, source, target, tag, outcome, source_digest, target_digest, error, at, place FROM tag_records
WHERE outcome IN ('failed', 'deferred', 'cancelled') AND (place, tag) > (:place, :after)
ORDER BY place, tag
LIMIT :limit;

-- summary --
SELECT g.name, t.outcome, count(*), max(t.succeeded), max(t.at)
FROM tags t
JOIN names g ON g.id = t.target
WHERE t.tag <> ''
GROUP BY g.name, t.outcome
ORDER BY g.name, t.outcome;

-- knows --
SELECT 1
FROM content c
JOIN repositories r ON r.id = c.repository
WHERE r.registry = :registry
LIMIT 1;

-- locate --
SELECT digest, name, seen
FROM (
    SELECT
        c.digest, r.name, c.seen,
        row_number() OVER (PARTITION BY c.digest ORDER BY c.seen DESC, r.name) AS place
    FROM content c
    JOIN repositories r ON r.id = c.repository
    WHERE c.digest IN (:digests) AND r.registry = :registry
) AS ranked
WHERE place <= :most;

-- held --
SELECT digest
FROM content
WHERE digest IN (:digests)
  AND repository = (SELECT id FROM repositories WHERE registry = :registry AND name = :repository);

-- subset --
SELECT target FROM subsets WHERE source = :source AND platforms = :platforms;

-- subsets --
SELECT source, target FROM subsets WHERE source IN (:sources) AND platforms = :platforms;

-- forget_challenges --
DELETE FROM challenges WHERE location = :location;

-- record_challenge --
INSERT INTO challenges (location, prefix, realm, service) VALUES (:location, :prefix, :realm, :service)
ON CONFLICT (location, prefix) DO UPDATE SET realm = excluded.realm, service = excluded.service;

-- challenges --
SELECT location, prefix, realm, service FROM challenges ORDER BY location, prefix;

-- record_upload --
INSERT INTO uploads (registry, repository, digest, location, confirmed, at)
VALUES (:registry, :repository, :digest, :location, :confirmed, :at)
ON CONFLICT (registry, repository, digest) DO UPDATE SET
    location = excluded.location,
    confirmed = excluded.confirmed,
    at = excluded.at;

-- forget_upload --
DELETE FROM uploads WHERE registry = :registry AND repository = :repository AND digest = :digest;

-- forget_old_uploads --
DELETE FROM uploads WHERE at < :since OR at > :now;

-- uploads --
SELECT registry, repository, digest, location, confirmed, at FROM uploads
WHERE at >= :since AND at <= :now
ORDER BY registry, repository, digest;
