"""Which kind of cloud a placement and a link make of `CloudModel`; nothing is read or reached here."""

import pytest

from specbench.cloud import CloudModel, LinkedCloud, LocalCloud, RemoteCloud
from specbench.errors import SpecbenchError
from specbench.profile import CloudSpec, LinkSpec

LINK = LinkSpec(rtt_ms=8)


@pytest.mark.parametrize(
    ("placement", "link", "kind"),
    [
        ("in_process", None, LocalCloud),
        ("in_process", LinkSpec(), LocalCloud),
        ("in_process", LINK, LinkedCloud),
        ("process", None, RemoteCloud),
        ("process", LINK, RemoteCloud),
        ("ws://cloud:8765", None, RemoteCloud),
    ],
)
def test_the_placement_and_the_link_decide_the_kind(placement, link, kind):
    by_spec = CloudModel(CloudSpec(model="nowhere", placement=placement), link=link)
    by_field = CloudModel(model="nowhere", placement=placement, link=link)
    for cloud in (by_spec, by_field, by_spec.another()):
        assert type(cloud) is kind
        assert cloud.spec.placement == placement
        assert cloud.is_wired == (kind is not LocalCloud)


def test_the_default_profile_makes_a_cloud_in_this_process():
    assert type(CloudModel()) is LocalCloud


@pytest.mark.parametrize("placement", ["process", "ws://cloud:8765"])
def test_a_cloud_elsewhere_has_no_engine_here(placement):
    cloud = CloudModel(CloudSpec(model="nowhere", placement=placement))
    with pytest.raises(SpecbenchError, match="needs the cloud model in this process"):
        _ = cloud.engine
