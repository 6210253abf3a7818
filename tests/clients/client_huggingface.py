"""huggingface_hub's InferenceClient: text generation in TGI's form, and chat."""

import os

import pytest

hub = pytest.importorskip("huggingface_hub")


def test_text_generation_whole_with_details_and_streamed():
    client = hub.InferenceClient(base_url=os.environ["HOTSEAT_URL"])
    text = client.text_generation("once", max_new_tokens=6, do_sample=False)
    details = client.text_generation("once", max_new_tokens=6, do_sample=False, details=True)
    assert details.generated_text == text
    assert details.details.generated_tokens == len(details.details.tokens) <= 6
    assert "".join(client.text_generation("once", max_new_tokens=6, do_sample=False, stream=True)) == text


def test_a_fault_is_told():
    from huggingface_hub.errors import ValidationError

    client = hub.InferenceClient(base_url=os.environ["HOTSEAT_URL"])
    with pytest.raises((ValidationError, Exception), match=r"typical_p|422"):
        client.text_generation("once", typical_p=0.5, do_sample=False)


def test_chat_whole_and_streamed():
    client = hub.InferenceClient(base_url=os.environ["HOTSEAT_URL"] + "/v1", api_key="none")
    messages = [{"role": "user", "content": "What is 5 km in metres?"}]
    whole = client.chat_completion(messages, model="auto", max_tokens=20, temperature=0.0)
    chunks = client.chat_completion(messages, model="auto", max_tokens=20, temperature=0.0, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
