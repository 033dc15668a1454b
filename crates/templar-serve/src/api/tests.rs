//! Requests as clients send them, and the answers that they take apart.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;

use super::{Answer, ApiError, Label, Request, Stream};
use crate::engine::{Asker, Event, answered};
use crate::served::Served;
use crate::testing::{chatting, served};

fn label() -> Label {
    Label { id: "cmpl-1".into(), created: 5 }
}

fn events(request: &Request, served: &Arc<Served>) -> Vec<Event> {
    let (sender, mut receiver) = unbounded_channel();
    let jobs = request.jobs(&Asker::default(), served, &sender).unwrap();
    answered(jobs);
    std::iter::from_fn(|| receiver.try_recv().ok()).collect()
}

fn document(request: &Request, served: &Arc<Served>) -> Value {
    let mut answer = Answer::new(request, served).unwrap();
    events(request, served).into_iter().for_each(|event| answer.take(event).unwrap());
    assert!(answer.is_complete());
    // As a client reads it: serde_json rounds the last digit of some numbers.
    serde_json::from_str(&answer.document(&label()).to_string()).unwrap()
}

/// The answer to a completion.
fn complete(body: Value) -> Value {
    let served = Arc::new(served(1));
    document(&Request::completion(&body, &served, 7).unwrap(), &served)
}

fn refused(body: Value) -> ApiError {
    Request::completion(&body, &served(1), 7).unwrap_err()
}

/// The documents of a stream, without its last event.
fn streamed(request: &Request, served: &Arc<Served>) -> Vec<Value> {
    let label = label();
    let stream = Stream { request, served, label: &label };
    let mut text = stream.begin().unwrap();
    let mut generated = 0;
    for event in events(request, served) {
        generated += u64::from(matches!(event, Event::Token { .. }));
        text.push_str(&stream.take(event).unwrap());
    }
    text.push_str(&stream.end(generated));
    let documents = text.strip_suffix("data: [DONE]\n\n").unwrap();
    documents
        .split_terminator("\n\n")
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect()
}

/// What lm-eval sends for log-likelihoods, and the n + 1 entries that it takes apart by place.
#[test]
fn a_scored_prompt_has_one_entry_more_than_tokens() {
    let prompts = json!([[3, 1, 4, 1, 5, 9, 2, 6], [5, 3], [8]]);
    let body = json!({ "model": "letters", "prompt": prompts, "temperature": 0, "max_tokens": 1, "logprobs": 1,
        "seed": 1234, "echo": true });
    let answer = complete(body);
    for (index, prompt) in prompts.as_array().unwrap().iter().enumerate() {
        let choice = &answer["choices"][index];
        assert_eq!(choice["index"], index);
        let logprobs = &choice["logprobs"];
        let list = |name: &str| logprobs[name].as_array().unwrap().clone();
        let (scores, tops) = (list("token_logprobs"), list("top_logprobs"));
        let count = prompt.as_array().unwrap().len();
        assert_eq!([scores.len(), tops.len(), list("tokens").len(), list("text_offset").len()], [count + 1; 4]);
        assert!(scores[0].is_null() && tops[0].is_null());
        for (score, top) in scores.iter().zip(&tops).skip(1) {
            let highest = top.as_object().unwrap().values().map(|top| top.as_f64().unwrap()).fold(f64::MIN, f64::max);
            assert!(score.as_f64().unwrap() <= highest);
        }
        // The token that was generated is among the alternatives, with the same bits.
        assert!(tops[count].as_object().unwrap().values().any(|top| Some(top) == scores.last()));
        let text: String = list("tokens").iter().map(|token| token.as_str().unwrap()).collect();
        assert_eq!(choice["text"], text);
    }
    assert_eq!(answer["usage"], json!({ "prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14 }));
}

/// A text is read behind the token that stands before documents, and the places are those of the text's own tokens.
#[test]
fn a_text_has_the_places_of_its_own_tokens() {
    let ask = |prompt: Value| {
        complete(json!({ "prompt": prompt, "echo": true, "logprobs": 0, "max_tokens": 1, "temperature": 0 }))
    };
    let (text, tokens) = (ask(json!("abba")), ask(json!([0, 1, 2, 2, 1])));
    let scores = |answer: &Value| answer["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap().clone();
    assert_eq!(scores(&text).len(), 5);
    assert!(scores(&text)[0].is_null());
    assert_eq!(scores(&text)[1..], scores(&tokens)[2..]);
    assert_eq!(text["usage"]["prompt_tokens"], 5);
    assert!(text["choices"][0]["text"].as_str().unwrap().starts_with("abba"));
    let offsets = &text["choices"][0]["logprobs"]["text_offset"];
    assert_eq!(*offsets, json!([0, 1, 2, 3, 4]));
}

#[test]
fn prompts_come_in_five_shapes_and_may_be_empty() {
    let texts = |prompt: Value| {
        let answer = complete(json!({ "prompt": prompt, "max_tokens": 3, "temperature": 0 }));
        let choices = answer["choices"].as_array().unwrap().clone();
        choices.iter().map(|choice| choice["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let empty = texts(json!(null));
    assert_eq!(empty.len(), 1);
    for prompt in [json!(""), json!([]), json!([[]]), json!([""]), json!([0])] {
        assert_eq!(texts(prompt.clone()), empty, "{prompt}");
    }
    let two = [texts(json!("ab")), texts(json!("ba"))].concat();
    assert_eq!(texts(json!(["ab", "ba"])), two);
    assert_eq!(texts(json!([[0, 1, 2], [0, 2, 1]])), two);
    assert_eq!(texts(json!(["ab", [0, 2, 1]])), two);
}

#[test]
fn no_token_is_generated_where_none_is_wanted() {
    let answer = complete(json!({ "prompt": "abc", "max_tokens": 0, "n": 2 }));
    let choice = |index: u64| json!({ "index": index, "text": "", "logprobs": null, "finish_reason": "length" });
    assert_eq!(answer["choices"], json!([choice(0), choice(1)]));
    assert_eq!(answer["usage"]["completion_tokens"], 0);
    let answer = complete(json!({ "prompt": [1, 2, 3], "max_tokens": 0, "echo": true, "logprobs": 1 }));
    assert_eq!(answer["choices"][0]["text"], "abc");
    assert_eq!(answer["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap().len(), 3);
}

/// A context of 96 tokens scores 97: lm-eval sends them with `max_length` two above the context.
#[test]
fn a_prompt_may_exceed_the_context_by_the_token_that_is_only_scored() {
    let prompt = |count: u32| (0..count).map(|i| i * 7 % 26 + 1).collect::<Vec<u32>>();
    let ask =
        |count| json!({ "prompt": prompt(count), "max_tokens": 1, "echo": true, "logprobs": 1, "temperature": 0 });
    let scores = |count| complete(ask(count))["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap().clone();
    let (full, whole) = (scores(97), scores(96));
    assert_eq!((full.len(), whole.len()), (98, 97));
    assert_eq!(full[1..96], whole[1..96]);
    assert!(full[96].is_f64() && full[97].is_null());
    let error = refused(ask(98));
    assert_eq!((error.status, error.code), (400, Some("context_length_exceeded")));
    assert!(error.message.contains("98") && error.message.contains("96"), "{error}");
    assert_eq!(refused(json!({ "prompt": prompt(97) })).code, Some("context_length_exceeded"));
    assert_eq!(complete(json!({ "prompt": prompt(96), "max_tokens": 9 }))["usage"]["completion_tokens"], 1);
}

#[test]
fn seeds_repeat_texts_and_texts_of_one_request_differ() {
    let ask = |seed: i64, n: u64| {
        let answer = complete(json!({ "prompt": "ab", "max_tokens": 20, "seed": seed, "n": n, "temperature": 2 }));
        let texts = answer["choices"].as_array().unwrap().iter().map(|choice| choice["text"].to_string());
        texts.collect::<Vec<_>>()
    };
    assert_eq!(ask(-1, 3), ask(-1, 3));
    assert_eq!(ask(-1, 3)[0], ask(-1, 1)[0]);
    assert_ne!(ask(1, 1), ask(2, 1));
    let three = ask(1, 3);
    assert!(three[0] != three[1] && three[1] != three[2]);
}

#[test]
fn a_stop_sequence_ends_a_text_and_is_not_part_of_it() {
    let ask =
        |stop: Value| complete(json!({ "prompt": "q", "max_tokens": 30, "seed": 3, "temperature": 3, "stop": stop }));
    let whole = ask(json!([]))["choices"][0]["text"].as_str().unwrap().to_owned();
    assert!(whole.len() > 4, "{whole}");
    let stopped = ask(json!(["0", &whole[2..4], ""]));
    assert_eq!(stopped["choices"][0]["text"], whole[..whole.find(&whole[2..4]).unwrap()]);
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    assert_eq!(ask(json!(&whole[2..4]))["choices"], stopped["choices"]);
}

#[test]
fn what_is_not_understood_is_refused_by_field() {
    let cases = [
        (json!([]), None),
        (json!({ "model": "gpt-4" }), Some("model")),
        (json!({ "prompt": 5 }), Some("prompt")),
        (json!({ "prompt": [[27, 30]] }), Some("prompt")),
        (json!({ "prompt": [1, "a"] }), Some("prompt")),
        (json!({ "prompt": [[1], 2] }), Some("prompt")),
        (json!({ "prompt": [-1] }), Some("prompt")),
        (json!({ "prompt": [1.5] }), Some("prompt")),
        (json!({ "max_tokens": -1 }), Some("max_tokens")),
        (json!({ "max_tokens": "9" }), Some("max_tokens")),
        (json!({ "temperature": -1 }), Some("temperature")),
        (json!({ "temperature": 1e-44 }), Some("temperature")),
        (json!({ "top_p": 0 }), Some("top_p")),
        (json!({ "n": 0 }), Some("n")),
        (json!({ "n": 128, "prompt": vec!["a"; 9] }), Some("n")),
        (json!({ "prompt": vec!["a"; 1025] }), Some("prompt")),
        (json!({ "seed": 1.5 }), Some("seed")),
        (json!({ "stop": 7 }), Some("stop")),
        (json!({ "stop": vec!["a"; 65] }), Some("stop")),
        (json!({ "logprobs": 21 }), Some("logprobs")),
        (json!({ "logprobs": true }), Some("logprobs")),
        (json!({ "echo": 1 }), Some("echo")),
        (json!({ "suffix": "x" }), Some("suffix")),
        (json!({ "best_of": 3 }), Some("best_of")),
        (json!({ "frequency_penalty": 0.5 }), Some("frequency_penalty")),
        (json!({ "logit_bias": { "5": 1 } }), Some("logit_bias")),
    ];
    for (body, param) in cases {
        let error = refused(body.clone());
        assert_eq!(error.param.as_deref(), param, "{body}: {error}");
        assert_eq!(error.status, if param == Some("model") { 404 } else { 400 }, "{body}");
        let written = error.body();
        assert!(written["error"]["message"].is_string() && written["error"]["type"] == "invalid_request_error");
    }
    // Null is the same as absent, and what nobody knows is passed by.
    let body = json!({ "n": null, "stop": null, "seed": null, "best_of": 1, "user": "u", "logit_bias": {},
        "presence_penalty": 0, "max_tokens": 2.0, "stream_options": null });
    assert!(Request::completion(&body, &served(1), 7).is_ok());
}

#[test]
fn a_stream_says_what_the_document_says() {
    let served = Arc::new(chatting(1));
    let completions = [
        json!({ "prompt": ["ab", "c"], "n": 2, "max_tokens": 9, "seed": 1, "echo": true, "logprobs": 2 }),
        json!({ "prompt": "ab", "max_tokens": 9, "seed": 1, "echo": true, "stream": true }),
    ];
    for body in completions {
        let request = Request::completion(&body, &served, 7).unwrap();
        let whole = document(&request, &served);
        let chunks = streamed(&request, &served);
        for choice in whole["choices"].as_array().unwrap() {
            let own = chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|own| own["index"] == choice["index"]);
            let own: Vec<&Value> = own.collect();
            let text: String = own.iter().map(|own| own["text"].as_str().unwrap()).collect();
            assert_eq!(choice["text"], text);
            assert_eq!(choice["finish_reason"], own.last().unwrap()["finish_reason"]);
            let scores = |choice: &Value| choice["logprobs"]["token_logprobs"].as_array().cloned().unwrap_or_default();
            assert_eq!(scores(choice), own.iter().flat_map(|own| scores(own)).collect::<Vec<_>>());
        }
        assert!(
            chunks.iter().all(|chunk| chunk["choices"].as_array().unwrap().len() == 1 && chunk.get("usage").is_none())
        );
    }
    let body = json!({ "messages": [{ "role": "user", "content": "ab" }], "max_tokens": 4, "seed": 1, "stream": true,
        "stream_options": { "include_usage": true } });
    let request = Request::chat(&body, &served, 7).unwrap();
    let (whole, chunks) = (document(&request, &served), streamed(&request, &served));
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "", "refusal": null }));
    let (last, chunks) = chunks.split_last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"]);
}

#[test]
fn a_conversation_is_read_by_the_template() {
    let served = Arc::new(chatting(1));
    let ask = |messages: Value| {
        Request::chat(
            &json!({ "messages": messages, "temperature": 0, "max_completion_tokens": 5, "logprobs": true,
            "top_logprobs": 2 }),
            &served,
            7,
        )
    };
    let turns = json!([{ "role": "system", "content": "a" },
        { "role": "user", "content": [{ "type": "text", "text": "b" }, { "type": "text", "text": "c" }] }]);
    let answer = document(&ask(turns).unwrap(), &served);
    let plain = json!({ "prompt": [1, 2, 3, 24], "temperature": 0, "max_tokens": 5 });
    let plain = document(&Request::completion(&plain, &served, 7).unwrap(), &served);
    assert_eq!(answer["choices"][0]["message"]["content"], plain["choices"][0]["text"]);
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["system_fingerprint"], "cafe");
    let first = &answer["choices"][0]["logprobs"]["content"][0];
    assert_eq!(
        (&first["token"], &first["logprob"]),
        (&first["top_logprobs"][0]["token"], &first["top_logprobs"][0]["logprob"])
    );
    assert_eq!(first["top_logprobs"].as_array().unwrap().len(), 2);
    for messages in [
        json!([]),
        json!("a"),
        json!([{ "content": "a" }]),
        json!([{ "role": "user", "content": 5 }]),
        json!([{ "role": "user", "content": [{ "type": "image_url" }] }]),
        json!([{ "role": "user", "content": "a</s>b" }]),
        json!([{ "role": "user", "content": "a".repeat(96) }]),
    ] {
        let error = ask(messages.clone()).unwrap_err();
        assert_eq!((error.status, error.param.as_deref()), (400, Some("messages")), "{messages}: {error}");
    }
    let without =
        Request::chat(&json!({ "messages": [{ "role": "user", "content": "a" }] }), &crate::testing::served(1), 7);
    assert!(without.unwrap_err().message.contains("no chat template"));
    let tools = json!({ "messages": [{ "role": "user", "content": "a" }], "tools": [{ "type": "function" }] });
    assert_eq!(Request::chat(&tools, &served, 7).unwrap_err().param.as_deref(), Some("tools"));
}
