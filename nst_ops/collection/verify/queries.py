"""The questions that a ledger asks, in DuckDB's SQL."""

from __future__ import annotations

from nst_ops.collection.verify.problems import Kind

COLUMNS = [
    *("item_id", "style", "source_uri", "source_member", "status", "error_type", "error_message"),
    *("output_uri", "output_member", "output_bytes", "output_sha256"),
]
"""What is read of a manifest."""

CREATE = """
-- owner: what Manifest.forget knows a row by, with its style
CREATE TABLE rows (owner VARCHAR, style VARCHAR, source VARCHAR, status VARCHAR,
                   place VARCHAR, member VARCHAR, bytes BIGINT, sha256 VARCHAR, lack VARCHAR);
CREATE TABLE pictures (owner VARCHAR, style VARCHAR, place VARCHAR, sha256 VARCHAR);
CREATE TABLE files (place VARCHAR, bytes BIGINT, is_media BOOLEAN);  -- bytes -1: not a regular file
CREATE TABLE problems (kind VARCHAR, what VARCHAR, detail VARCHAR, owner VARCHAR, style VARCHAR);
CREATE VIEW outputs AS
    SELECT owner, style, place, member, bytes, sha256 FROM rows WHERE status = 'ok' AND place IS NOT NULL
    UNION ALL SELECT owner, style, place, NULL, NULL, sha256 FROM pictures;
CREATE VIEW there AS
    SELECT owner, style, place, member, outputs.bytes AS promised, sha256, files.bytes,
           -- Shards have no size in the manifest; tables of frames have been read by then.
           member IS NULL AND NOT ends_with(place, '.frames/frames.csv') AS single
    FROM outputs JOIN files USING (place);
CREATE VIEW sound AS
    FROM there WHERE single AND sha256 IS NOT NULL AND bytes >= 0 AND bytes = coalesce(promised, bytes);
CREATE VIEW packed AS
    FROM there WHERE member IS NOT NULL AND bytes >= 0;
"""

ADD_ROWS = """
INSERT INTO rows
SELECT source_uri AS owner, style,
       coalesce(source_uri, 'a source without a name') || coalesce('#' || source_member, ''),
       status, place, output_member, output_bytes, output_sha256,
       CASE WHEN status IS NULL THEN 'has no status'
            WHEN status <> 'ok' AND (error_type IS NULL OR error_message IS NULL)
                THEN 'is ' || status || ', but does not say why'
            WHEN status = 'ok' AND (output_uri IS NULL OR output_bytes IS NULL OR output_sha256 IS NULL)
                THEN 'is ok, but does not say where its output is, how long, or with which hash'
            WHEN status = 'ok' AND place IS NULL
                THEN 'names an output outside of this folder: ' || output_uri END
FROM (SELECT *, CASE WHEN starts_with(output_uri, $root) THEN substr(output_uri, length($root) + 1)
                     WHEN starts_with(output_uri, $recorded)
                         THEN substr(output_uri, length($recorded) + 1) END AS place FROM batch)
"""

COMPARE = {
    Kind.ROW: "SELECT source, lack, owner, style FROM rows WHERE lack IS NOT NULL",
    # Hashes first: of a hundred million rows a few are candidates, and only these are compared by name.
    Kind.TWICE: """
        SELECT source, 'has ' || count(*) || ' rows in style ' || style, min(owner), style
        FROM rows WHERE hash(source, style) IN (
            SELECT hash(source, style) FROM rows GROUP BY 1 HAVING count(*) > 1)
        GROUP BY source, style HAVING count(*) > 1""",
    Kind.SHARED: """
        SELECT place || coalesce('#' || member, ''),
               'is the output of ' || min(source) || ' and of ' || max(source),
               arg_min(owner, source), arg_min(style, source)
        FROM rows WHERE status = 'ok' AND place IS NOT NULL AND hash(place, member) IN (
            SELECT hash(place, member) FROM rows WHERE status = 'ok' GROUP BY 1 HAVING count(*) > 1)
        GROUP BY place, member HAVING min(source) <> max(source)""",
    Kind.MISSING: """
        SELECT place, 'is not there', owner, style FROM outputs ANTI JOIN files USING (place)""",
    Kind.DAMAGED: """
        SELECT place, if(bytes < 0, 'is not a regular file',
                         format('has {:,} bytes, its row says {:,}', bytes, promised)), owner, style
        FROM there WHERE bytes < 0 OR (single AND bytes <> promised)""",
    Kind.EXTRA: """
        SELECT place, 'is in no row', NULL, NULL FROM files ANTI JOIN outputs USING (place)
        WHERE NOT list_contains($reserved, split_part(place, '/', 1))
          AND place NOT LIKE '.%' AND place NOT LIKE '%/.%'
          -- The labels of a shard that was written as files lie beside its images, without rows.
          AND (is_media OR regexp_extract(place, '^(.*?\\.files)/', 1) NOT IN (
              SELECT regexp_extract(place, '^(.*?\\.files)/', 1) FROM outputs
              WHERE contains(place, '.files/')))
          -- Beside a table of frames that cannot be read nobody knows which pictures are extra.
          AND regexp_replace(place, '[^/]*$', 'frames.csv') NOT IN (
              SELECT what FROM problems WHERE kind IN ('missing', 'damaged', 'unreadable'))""",
}
"""Of each kind: what, detail, and the row to forget. Later kinds look at the problems of earlier ones."""

FORGET = """
SELECT DISTINCT owner, style FROM problems WHERE owner IS NOT NULL
UNION SELECT owner, style FROM rows WHERE place IN (
    SELECT place FROM rows SEMI JOIN problems USING (owner, style))
"""
