// What people type, paste and drop: wrong, huge, hostile.
import assert from "node:assert/strict"
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { test } from "node:test"
import { assertAccessible, screenshot } from "./harness/browser.mjs"
import { completed, current, jobs, newest, openStudio, state } from "./harness/studio.mjs"
import { fullServer } from "./harness/suite.mjs"

const HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2<\/script>'

function folder(t) {
  const path = mkdtempSync(join(tmpdir(), "koma-input-"))
  t.after(() => rmSync(path, { recursive: true }))
  return path
}

const focused = (page) => page.evaluate(() => ({ name: document.activeElement.name, invalid: document.activeElement.ariaInvalid }))

// Drops or pastes files with these names and contents, as the browser hands them to the page.
async function hand(locator, event, files) {
  await locator.evaluate(
    (element, [event, files]) => {
      const data = new DataTransfer()
      for (const { name, type, content } of files) data.items.add(new File([content], name, { type }))
      const bubbles = { bubbles: true, cancelable: true }
      element.dispatchEvent(event === "drop" ? new DragEvent("drop", { ...bubbles, dataTransfer: data }) : new ClipboardEvent("paste", { ...bubbles, clipboardData: data }))
    },
    [event, files],
  )
}

for (const slug of ["understand", "image", "video"]) {
  test(`${slug}: every number field says in words what is wrong with what was typed or pasted`, async (t) => {
    const { url } = await fullServer()
    const page = await openStudio(t, url, slug)
    const view = current(page)
    const submit = view.locator("button.primary")
    await view.getByText("Advanced").click()
    const prompt = view.getByLabel("Prompt", { exact: true })
    await prompt.fill("a lamp")
    const fields = view.locator("input[inputmode]")
    assert.ok((await fields.count()) >= 5)
    for (const field of await fields.all()) {
      const before = await field.inputValue()
      const name = await field.getAttribute("name")
      for (const wrong of ["ten", "1e999", "-5", "99999999999999999999", "NaN", HOSTILE]) {
        await field.fill(wrong)
        await submit.click()
        assert.deepEqual(await focused(page), { name, invalid: "true" }, `${name}: ${wrong}`)
        await view.locator(".error:not([hidden])").getByText(/^Must be /).waitFor()
      }
      await field.fill(before)
    }
    assert.equal(await view.locator("article.job").count(), 0, "nothing was submitted")
  })
}

test("a text that is missing or too long is said at its field, and keys are enough to mend it", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "image")
  const view = current(page)
  await view.getByRole("button", { name: "Make the image" }).click()
  await view.getByText("Please fill this in.").waitFor()
  assert.deepEqual(await focused(page), { name: "prompt", invalid: "true" })
  await view.getByLabel("Prompt", { exact: true }).fill("x".repeat(4001))
  await view.getByRole("button", { name: "Make the image" }).click()
  await view.getByText("Must have at most 4000 characters; these are 4001.").waitFor()
  await assertAccessible(page)
  await screenshot(page, "error-at-field")

  await view.getByLabel("Prompt", { exact: true }).fill("a lamp")
  await page.keyboard.press("Tab")
  await page.keyboard.press("ArrowUp") // the field of the steps: 13
  await page.keyboard.press("Enter")
  const job = await completed(page)
  await job.getByText("Parameters").focus()
  await page.keyboard.press("Enter")
  assert.match(await job.locator("dl").innerText(), /Steps\s+13/)
})

test("what only the model can find wrong is said at the field as well", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "understand")
  await current(page).getByRole("button", { name: "Ask" }).click()
  await current(page).locator(".error:not([hidden])").getByText("A video or an image is required").waitFor()
  assert.equal(await page.evaluate(() => document.activeElement.type), "file")
  await hand(current(page).locator(".drop"), "drop", [{ name: "broken.png", type: "image/png", content: "no picture" }])
  await current(page).getByText("broken.png").waitFor()
  await current(page).getByRole("button", { name: "Ask" }).click()
  await current(page).locator(".error:not([hidden])").first().waitFor()
})

test("files that do not fit are refused with a reason before they are uploaded", async (t) => {
  const { url } = await fullServer()
  const uploads = []
  const prepare = (page) => page.on("request", (request) => request.method() === "POST" && uploads.push(request.url()))
  const page = await openStudio(t, url, "understand", { prepare })
  const zone = current(page).locator(".drop")
  const refused = async (event, files, reason) => {
    await hand(zone, event, files)
    await current(page).locator(".error:not([hidden])").getByText(reason).waitFor()
  }
  await refused("drop", [{ name: "notes.txt", type: "text/plain", content: "x" }], /“notes\.txt” is PLAIN; choose .*MP4/)
  await refused("drop", [{ name: "what", type: "", content: "x" }], /“what” is of an unknown type/)
  await refused("paste", [{ name: "empty.png", type: "image/png", content: "" }], "“empty.png” is empty.")
  await refused("drop", [], "Only files can be dropped here.")
  const two = [1, 2].map((n) => ({ name: `${n}.png`, type: "image/png", content: "x" }))
  await refused("drop", two, "One file at a time; these are 2.")

  const large = join(folder(t), "large.mp4")
  writeFileSync(large, "")
  truncateSync(large, 2 * 1024 ** 3) // sparse
  await current(page).locator("input[type=file]").setInputFiles(large)
  await current(page).getByText(/“large\.mp4” has 2\.1 GB; at most 537 MB are taken\./).waitFor()
  assert.deepEqual(uploads, [])
})

test("a file that is dropped or pasted on any field goes where files go in", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "video")
  await current(page).getByText("Advanced").click()
  const fields = current(page).locator("textarea, input[type=text], select")
  for (const [index, field] of (await fields.all()).entries()) {
    const name = `${index}.png`
    await hand(field, index % 2 ? "drop" : "paste", [{ name, type: "image/png", content: `picture ${index}` }])
    await current(page).locator(".name").getByText(name).waitFor()
  }
  assert.equal(new URL(page.url()).hash, "#video")
})

test("hostile prompts, file names and errors are shown as text", async (t) => {
  const { url } = await fullServer()
  const page = await openStudio(t, url, "image")
  page.on("dialog", () => assert.fail("a dialog"))
  await current(page).getByLabel("Prompt", { exact: true }).fill(HOSTILE)
  await current(page).getByLabel("Steps").fill("2")
  await current(page).getByRole("button", { name: "Make the image" }).click()
  const job = await completed(page)
  assert.equal(await job.getByRole("heading").textContent(), HOSTILE)

  await current(page).getByLabel("Steps").fill(HOSTILE)
  await current(page).getByRole("button", { name: "Make the image" }).click()
  await current(page).getByText(/Must be a whole number, not “<img src=x onerror=/).waitFor()

  await page.getByRole("link", { name: "Gallery" }).click()
  await page.getByRole("heading", { name: HOSTILE }).first().waitFor()
  await page.getByRole("link", { name: "Understand" }).click()
  const name = `${HOSTILE}.png`
  await hand(current(page).locator(".drop"), "drop", [{ name, type: "image/png", content: "x" }])
  assert.equal(await current(page).locator(".name").textContent(), name)

  await page.goto(`${url}/#job/${encodeURIComponent(HOSTILE)}`)
  await state(newest(page), "failed").waitFor()
  assert.equal(await page.locator("[onerror], main script").count(), 0)
  assert.match(await page.title(), /Koma Studio/)
  assert.ok((await jobs(url)).some(({ params }) => params.prompt === HOSTILE))
})
