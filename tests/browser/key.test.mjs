// A server that asks for API keys: the page asks for one, keeps it for the tab, and shows what is the key's own.
import assert from "node:assert/strict"
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { test } from "node:test"
import { assertAccessible, openPage, openTab, screenshot } from "./harness/browser.mjs"
import { completed, current } from "./harness/studio.mjs"
import { server } from "./harness/suite.mjs"

const SECRETS = { ann: "ann-secret-0123456789", ben: "ben-secret-0123456789" }
const KEYS = Object.entries(SECRETS)
  .map(([id, secret]) => `${id} sha256:${createHash("sha256").update(secret).digest("hex")}`)
  .join(";")

const keyedServer = () => server("keyed", { KOMA_MODELS: "amused", KOMA_KEYS: KEYS })

async function enter(page, secret) {
  await page.getByLabel("API key", { exact: true }).last().fill(secret)
  await page.getByRole("button", { name: "Enter" }).click()
}

test("without a key nothing is asked of the server; a wrong one is refused in words; the right one is kept for the tab", async (t) => {
  const { url } = await keyedServer()
  const asked = []
  const prepare = (page) => page.on("request", (request) => asked.push(new URL(request.url()).pathname))
  const page = await openPage(t, url, { prepare, expected: [/status of 401/] })
  await page.getByRole("dialog").waitFor()
  assert.deepEqual(asked.filter((path) => !path.startsWith("/static/")), ["/"])
  await assertAccessible(page)
  await screenshot(page, "key")
  await enter(page, "nobody's")
  await page.getByText("The server does not know this key.").waitFor()
  await enter(page, SECRETS.ann)
  await page.getByText("Connected", { exact: true }).waitFor()
  await page.reload()
  await page.getByText("Connected", { exact: true }).waitFor()
  assert.doesNotMatch(asked.join() + page.url(), /secret/)
})

test("pictures, uploads and downloads carry the key, and the gallery is that of the key", async (t) => {
  const { url } = await keyedServer()
  const page = await openPage(t, `${url}/#image`)
  await enter(page, SECRETS.ann)
  await current(page).getByLabel("Prompt", { exact: true }).fill("Ann's lamp")
  await current(page).getByRole("button", { name: "Make the image" }).click()
  const job = await completed(page)
  const picture = job.getByRole("img", { name: "Ann's lamp" })
  await picture.and(page.locator("[src]")).waitFor()
  await picture.evaluate((image) => image.decode())
  const [download] = await Promise.all([page.waitForEvent("download"), job.getByText("Download").click()])
  assert.equal(readFileSync(await download.path()).subarray(1, 4).toString(), "PNG")
  await page.getByRole("link", { name: "Gallery" }).click()
  await page.getByText("1 result").waitFor()

  const other = await openTab(t, page.context(), `${url}/#gallery`)
  await enter(other, SECRETS.ben)
  await other.getByText("Nothing is finished yet.").waitFor()
  await other.getByRole("button", { name: "Forget my key" }).click()
  await other.getByRole("dialog").waitFor()
})
