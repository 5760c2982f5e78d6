// OpenAI's client for JavaScript against a running server, unchanged. Run by test_other_clients.py,
// which sets KOMA_V1, KOMA_API_KEY and KOMA_CLIP, the path of a clip.
import assert from "node:assert/strict"
import { readFile } from "node:fs/promises"
import { test } from "node:test"
import OpenAI from "openai"

const client = new OpenAI({ baseURL: process.env.KOMA_V1, apiKey: process.env.KOMA_API_KEY })
const clip = `data:video/mp4;base64,${(await readFile(process.env.KOMA_CLIP)).toString("base64")}`
const messages = [
  { role: "user", content: [{ type: "text", text: "What is it?" }, { type: "video_url", video_url: { url: clip } }] },
]

async function all(pages) {
  const found = []
  for await (const item of pages) found.push(item)
  return found
}

test("models are listed", async () => {
  assert.deepEqual((await all(client.models.list())).map(({ id }) => id), ["amused", "ltx_video", "smolvlm2"])
})

test("pictures are made, and a stream tells partial ones", async () => {
  const made = await client.images.generate({ model: "amused", prompt: "a dog", n: 4, size: "64x64", steps: 4 })
  assert.equal(new Set(made.data.map((image) => image.b64_json)).size, 4)
  const events = await all(
    await client.images.generate({ model: "amused", prompt: "a dog", stream: true, partial_images: 2, steps: 64 }),
  )
  const types = events.map(({ type }) => type)
  const partial = "image_generation.partial_image"
  assert.deepEqual(types, [partial, partial, "image_generation.completed"])
})

test("a clip is understood, at once, piece by piece and as a response", async () => {
  const whole = await client.chat.completions.create({ model: "smolvlm2", messages })
  assert.equal(whole.choices[0].message.content, "a sailboat")
  const chunks = await all(await client.chat.completions.create({ model: "smolvlm2", messages, stream: true }))
  assert.equal(chunks.map(({ choices }) => choices[0].delta.content ?? "").join(""), "a sailboat")
  const content = [{ type: "input_text", text: "What is it?" }, { type: "input_file", file_data: clip }]
  const response = await client.responses.create({ model: "smolvlm2", input: [{ role: "user", content }] })
  assert.equal(response.output_text, "a sailboat")
})

test("a video is made, asked after, fetched, listed and deleted", async () => {
  const asked = { model: "ltx_video", prompt: "a dog", num_frames: 9, num_inference_steps: 2 }
  let video = await client.videos.create(asked)
  while (["queued", "in_progress"].includes(video.status)) video = await client.videos.retrieve(video.id)
  assert.equal(video.status, "completed")
  const bytes = Buffer.from(await (await client.videos.downloadContent(video.id)).arrayBuffer())
  assert.equal(bytes.toString("latin1", 4, 8), "ftyp")
  assert.ok((await all(client.videos.list({ limit: 1 }))).some(({ id }) => id === video.id))
  assert.equal((await client.videos.delete(video.id)).deleted, true)
})

test("a refusal is the exception of the client, with its code", async () => {
  const asked = client.images.generate({ model: "nobody", prompt: "a dog" })
  await assert.rejects(asked, (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found")
})
