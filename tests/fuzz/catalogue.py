"""Every family, in the order of the alphabet."""

from __future__ import annotations

from tests.fuzz import (
    answers,
    archives,
    configuration,
    credentials,
    documents,
    errors,
    headers,
    layouts,
    references,
    specs,
    states,
)

FAMILIES = {
    family.name: family
    for family in sorted(
        (
            *answers.FAMILIES,
            archives.FAMILY,
            configuration.REGISTRIES,
            configuration.CERTIFICATES,
            credentials.FILES,
            credentials.HELPERS,
            credentials.TOKENS,
            documents.FAMILY,
            errors.FAMILY,
            headers.FAMILY,
            *layouts.FAMILIES,
            references.FAMILY,
            specs.PLANS,
            specs.SPECS,
            *states.FAMILIES,
        ),
        key=lambda family: family.name,
    )
}
