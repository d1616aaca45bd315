"""Registries told by their names: the patterns, their near misses, and what follows from each."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from syncer.events import RequestKind
from syncer.registry.hosts import HostKind, Traits, account_and_region, classify, creation_hint, traits_of

ACCOUNT = "123456789012"
#: One host of each kind.
HOSTS = (
    "docker.io",
    f"{ACCOUNT}.dkr.ecr.x.amazonaws.com",
    "public.ecr.aws",
    "gcr.io",
    "a.azurecr.io",
    "ghcr.io",
    "quay.io",
    "registry.gitlab.com",
    "registry.digitalocean.com",
    "a.ocir.io",
    "cgr.dev",
    "registry.k8s.io",
    "example.com",
)


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("docker.io", HostKind.DOCKER_HUB),
        ("index.docker.io", HostKind.DOCKER_HUB),
        ("registry-1.docker.io", HostKind.DOCKER_HUB),
        (f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com", HostKind.ECR),
        (f"{ACCOUNT}.dkr.ecr.cn-north-1.amazonaws.com.cn", HostKind.ECR),
        (f"{ACCOUNT}.dkr.ecr-fips.us-gov-west-1.amazonaws.com", HostKind.ECR),
        (f"{ACCOUNT}.dkr-ecr.us-east-1.on.aws", HostKind.ECR),
        (f"{ACCOUNT}.dkr-ecr-fips.us-east-1.on.aws", HostKind.ECR),
        (f"{ACCOUNT}.dkr.ecr.eusc-de-east-1.amazonaws.eu", HostKind.ECR),
        (f"{ACCOUNT}.dkr.ecr.us-iso-east-1.c2s.ic.gov", HostKind.ECR),
        (f"{ACCOUNT}.dkr.ecr.us-isob-east-1.sc2s.sgov.gov", HostKind.ECR),
        ("public.ecr.aws", HostKind.ECR_PUBLIC),
        ("gcr.io", HostKind.GAR),
        ("eu.gcr.io", HostKind.GAR),
        ("europe-west1-docker.pkg.dev", HostKind.GAR),
        ("mine.azurecr.io", HostKind.ACR),
        ("mine.azurecr.cn", HostKind.ACR),
        ("mine.azurecr.us", HostKind.ACR),
        ("ghcr.io", HostKind.GHCR),
        ("quay.io", HostKind.QUAY),
        ("registry.gitlab.com", HostKind.GITLAB),
        ("registry.digitalocean.com", HostKind.DIGITALOCEAN),
        ("fra.ocir.io", HostKind.OCIR),
        ("cgr.dev", HostKind.CHAINGUARD),
        ("registry.k8s.io", HostKind.KUBERNETES),
        # Written in other ways.
        ("GHCR.IO.", HostKind.GHCR),
        ("gcr.io:443", HostKind.GAR),
        ("Quay.IO.:443", HostKind.QUAY),
        (f"{ACCOUNT}.DKR.ECR.eu-west-1.amazonaws.com:443", HostKind.ECR),
    ],
)
def test_patterns(host: str, kind: HostKind) -> None:
    """Each pattern finds its registry, whatever the case, the port and a dot at the end."""
    assert classify(host) is kind
    assert traits_of(host).kind is kind


@pytest.mark.parametrize(
    "host",
    [
        "evil-azurecr.io",
        "azurecr.io",
        ".azurecr.io",
        "mine.azurecr.io.evil.com",
        "ghcr.io.evil.com",
        "xghcr.io",
        "ghcr.io..",
        "evilgcr.io",
        "gcr.io.evil.com",
        "-docker.pkg.dev",
        "europe-docker.pkg.dev.evil.com",
        "docker.pkg.dev",
        "notquay.io",
        "quay.io.evil.com",
        "docker.io.evil.com",
        "12345678901.dkr.ecr.eu-west-1.amazonaws.com",
        f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com.evil.com",
        f"{ACCOUNT}.dkr.ecr.eu-west-1.evil.com",
        f"{ACCOUNT}.dkr.ecr.eu.west.amazonaws.com",
        f"x{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com",
        f"{ACCOUNT}.dkrXecr.eu-west-1.amazonaws.com",
        f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com\n",
        "public.ecr.aws.evil.com",
        "my.public.ecr.aws",
        "gitlab.com",
        "localhost:5000",
        "[::1]:5000",
        "127.0.0.1",
        "",
    ],
)
def test_near_misses(host: str) -> None:
    """A name that only looks like one of theirs is nobody's, and gets the defaults of one unknown."""
    assert classify(host) is HostKind.OTHER
    assert traits_of(host) == Traits()


@pytest.mark.parametrize("kind", list(HostKind))
def test_traits_name_their_kind(kind: HostKind) -> None:
    """Whatever is assumed, it says of whom."""
    assert kind in {traits_of(host).kind for host in HOSTS}


def test_pages_of_tags() -> None:
    """A number of tags is asked for only where such a number is known to be taken."""
    pages = {host: traits_of(host).tag_page for host in ("gcr.io", "ghcr.io", "quay.io", "docker.io", "example.com")}
    assert pages == {"gcr.io": 10_000, "ghcr.io": 1000, "quay.io": 0, "docker.io": 0, "example.com": 0}


def test_rates() -> None:
    """Ceilings stay a fifth below what is documented; nobody unknown has any."""
    ecr = traits_of(f"{ACCOUNT}.dkr.ecr.x.amazonaws.com")
    assert (ecr.rates[RequestKind.MANIFEST_PUT], ecr.rates[RequestKind.UPLOAD_POST]) == (8, 80)
    assert traits_of("public.ecr.aws").rates[RequestKind.UPLOAD_PUT] == 8
    assert traits_of("ghcr.io").requests_per_second == 20
    assert traits_of("europe-docker.pkg.dev").requests_per_second == 240
    assert traits_of("a.azurecr.io").rates[RequestKind.MANIFEST_PUT] == 26
    assert traits_of("quay.io").rates[RequestKind.TAGS] == 4
    assert (traits_of("example.com").requests_per_second, dict(traits_of("example.com").rates)) == (None, {})


def test_uploads() -> None:
    """What is known not to take a blob in pieces is not sent any."""
    chunked = {host for host in ("ghcr.io", "gcr.io", "public.ecr.aws", "quay.io", "a.io") if traits_of(host).chunks}
    assert chunked == {"quay.io", "a.io"}
    assert traits_of("ghcr.io").largest_chunk == 4 * 1024 * 1024


def test_traits_cannot_be_changed() -> None:
    """What is assumed of a registry is one value for all of its clients."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        traits_of("quay.io").chunks = False  # type: ignore[misc]  # that it fails is the test
    assert hash(traits_of("quay.io")) == hash(traits_of("QUAY.io"))


def test_account_and_region() -> None:
    """The name of a private ECR registry tells its account and region."""
    assert account_and_region(f"{ACCOUNT}.dkr.ecr-fips.us-gov-west-1.amazonaws.com:443") == (ACCOUNT, "us-gov-west-1")
    assert account_and_region("public.ecr.aws") is None


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com", "--repository-name team/app --region eu-west-1"),
        (f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com", "create: ecr"),
        ("public.ecr.aws", "aws ecr-public create-repository --repository-name app"),
        ("gcr.io", "gcloud artifacts repositories create"),
        ("quay.io", "credentials may push"),
        ("harbor.example.com", "create the project 'team', or write 'create: harbor'"),
    ],
)
def test_what_to_do_about_a_missing_repository(host: str, words: str) -> None:
    """The advice names the command, and the key of the spec that does it."""
    assert words in creation_hint(host, "team/app")


def test_harbor_is_not_suggested_without_a_project() -> None:
    """A name of one part lies in no project."""
    assert "Harbor" not in creation_hint("example.com", "app")


def _rows() -> dict[str, list[str]]:
    """Return the rows of the table of hosts in the documentation, by kind."""
    page = (Path(__file__).parents[3] / "docs" / "quirks.md").read_text()
    table = page.partition("| host | kind |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {row[1]: row for row in rows}


@pytest.mark.parametrize("kind", list(HostKind))
def test_the_documentation_says_what_is_assumed(kind: HostKind) -> None:
    """The table in docs/quirks.md has the numbers of the code, for every kind of host."""
    traits = next(found for host in HOSTS if (found := traits_of(host)).kind is kind)
    _, _, page, catalog, rates = _rows()[kind]
    assert page == (str(traits.tag_page) if traits.tag_page else "not asked for")
    assert catalog == ("yes" if traits.catalog else "no")
    numbers = {float(word) for word in re.findall(r"[0-9]+", rates)}
    assert numbers == {*traits.rates.values()} | ({traits.requests_per_second} - {None})
