// OpenAI's client for Node: an answer, a stream, a tool that must be called, an object by schema, a refusal.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.env.HOTSEAT_URL}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is 5 km in metres?" }];
const pet = {
  type: "object",
  properties: { kind: { type: "string", enum: ["cat", "dog"] }, age: { type: "integer", minimum: 0, maximum: 30 } },
  required: ["kind", "age"],
  additionalProperties: false,
};

test("an answer and a stream are the same", async () => {
  const whole = await client.chat.completions.create({ model: "auto", messages, temperature: 0 });
  assert.equal(whole.choices[0].finish_reason, "stop");
  assert.ok(whole.usage.completion_tokens > 0);
  let text = "";
  for await (const chunk of await client.chat.completions.create({
    model: "auto", messages, temperature: 0, stream: true, stream_options: { include_usage: true },
  })) text += chunk.choices[0]?.delta?.content ?? "";
  assert.equal(text, whole.choices[0].message.content);
});

test("an object by schema", async () => {
  const reply = await client.chat.completions.create({
    model: "auto", messages, max_tokens: 200,
    response_format: { type: "json_schema", json_schema: { name: "pet", strict: true, schema: pet } },
  });
  const { kind, age } = JSON.parse(reply.choices[0].message.content);
  assert.ok(["cat", "dog"].includes(kind) && Number.isInteger(age));
});

test("a tool that must be called is called", async () => {
  const reply = await client.chat.completions.create({
    model: "auto", messages, max_tokens: 200,
    tools: [{ type: "function", function: { name: "adopt", parameters: pet } }],
    tool_choice: "required",
  });
  const [call] = reply.choices[0].message.tool_calls;
  assert.equal(call.function.name, "adopt");
  assert.ok(["cat", "dog"].includes(JSON.parse(call.function.arguments).kind));
});

test("the responses interface and the models", async () => {
  const response = await client.responses.create({ model: "auto", input: "What is 5 km in metres?" });
  assert.ok(response.output_text.length > 0);
  const ids = (await client.models.list()).data.map((model) => model.id);
  assert.ok(ids.includes("auto") && ids.includes("units"));
});

test("a wrong field is a 400 that names it", async () => {
  await assert.rejects(client.chat.completions.create({ model: "auto", messages, temperature: 9 }), (error) => {
    assert.equal(error.status, 400);
    assert.equal(error.param, "temperature");
    return true;
  });
});
