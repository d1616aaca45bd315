-- How registries want to be asked for a token, so that the next run starts with one. Nothing secret is in it.

CREATE TABLE challenges (
    location TEXT NOT NULL,
    prefix TEXT NOT NULL,
    realm TEXT NOT NULL,
    service TEXT NOT NULL,
    PRIMARY KEY (location, prefix)
) /* sqlite: WITHOUT ROWID */;
