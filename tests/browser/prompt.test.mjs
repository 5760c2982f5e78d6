// A prompt is counted while it is typed: what the model would not read stands below it before it is asked, and beside the result.
import assert from "node:assert/strict"
import { test } from "node:test"
import { assertAccessible, screenshot } from "./harness/browser.mjs"
import { around, completed, current, newest, openStudio } from "./harness/studio.mjs"
import { fullServer } from "./harness/suite.mjs"

const LONG = "a red sailboat that moves from the left to the right on a calm blue sea under a yellow sun, with two clouds, a bird and a small island behind it"
const count = (page, name = "prompt") => around(current(page).locator(`[name="${name}"]`)).locator(".count")

test("a prompt that is too long says how many of its tokens are read, while it is typed and beside the result", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "image")
  const prompt = current(page).getByLabel("Prompt", { exact: true })
  await prompt.fill("a cup of coffee")
  await count(page).getByText(/^\d+ tokens$/).waitFor()
  assert.equal(await count(page).evaluate((element) => element.classList.contains("warning")), false)
  await prompt.fill(LONG)
  await count(page).getByText(/^The prompt has \d+ tokens; the model reads the first 32\.$/).waitFor()
  assert.equal(await count(page).evaluate((element) => element.classList.contains("warning")), true)
  await assertAccessible(page)
  await screenshot(page, "studio-prompt-too-long")
  await current(page).getByLabel("Steps").fill("1")
  await current(page).getByRole("button", { name: "Make the image" }).click()
  await completed(page)
  await newest(page).getByText(/the model reads the first 32/).waitFor()
  await screenshot(page, "studio-prompt-too-long-done")
  await prompt.fill("")
  await count(page).waitFor({ state: "hidden" })
})

test("a prompt of unknown words says so, and only the latest text is counted", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "video")
  const asked = []
  page.on("request", (request) => request.url().endsWith("/v1/count") && asked.push(request.postDataJSON().params.prompt))
  const prompt = current(page).getByLabel("Prompt", { exact: true })
  await prompt.pressSequentially("日本の猫と海", { delay: 5 })
  await count(page).getByText("The model cannot read the prompt: all of it is unknown to it.").waitFor()
  await screenshot(page, "studio-prompt-unknown")
  assert.ok(asked.length < 6, `one question a pause, not one a key: ${asked}`)
  assert.equal(asked.at(-1), "日本の猫と海")
})
