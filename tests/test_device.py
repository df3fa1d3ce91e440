"""Which precision is the fastest one: told by what the processor can do."""

import platform

import pytest
import torch

from vrestore.device import resolve_dtype


@pytest.mark.parametrize(
    ("machine", "able", "supported", "expected"),
    [
        ("x86_64", {"amx_bf16": True, "avx512_bf16": True}, True, torch.bfloat16),
        ("x86_64", {"avx512_bf16": True, "sse4a": True}, True, torch.bfloat16),  # AMD's
        ("AMD64", {"avx512_bf16": True, "sse4a": False}, True, torch.float32),  # Intel's, as Windows calls them all
        ("x86_64", {}, True, torch.float32),
        ("aarch64", {}, True, torch.bfloat16),
        ("aarch64", {}, False, torch.float32),
    ],
)
def test_auto_is_the_precision_that_the_processor_is_fast_in(monkeypatch, machine, able, supported, expected):
    torch.ops.mkldnn._is_mkldnn_bf16_supported()  # so that there is something to replace
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    cpu = torch.device("cpu")
    assert resolve_dtype("auto", cpu) == expected
    assert resolve_dtype("float16", cpu) == torch.float16
