"""Which kind of cloud a placement and a link make of `CloudModel`; nothing is read or reached here."""

import pytest

from specbench.api import Decoding, Needs, Options, Speculative
from specbench.cloud import CloudModel, LinkedCloud, LocalCloud, RemoteCloud
from specbench.cloud.openai_cloud import OpenAiCloud
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


@pytest.mark.parametrize(
    ("needs", "reason"), [(Needs(trees=True), "reads no trees"), (Needs(top_k=8), "likeliest ids")]
)
def test_a_server_of_another_engine_refuses_what_it_cannot_do_before_it_is_reached(needs, reason):
    cloud = OpenAiCloud(CloudSpec(model="nowhere", placement="http://127.0.0.1:9", backend="openai"))
    with pytest.raises(SpecbenchError, match=reason):
        cloud.verifier(Options(Decoding(), Speculative()), needs)
