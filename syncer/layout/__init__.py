"""Content on disk: OCI image layouts (image-spec, image-layout.md), trees of them, archives and ``dir:``."""
