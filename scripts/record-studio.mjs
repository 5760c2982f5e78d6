// Takes the README's pictures of the Studio from a real server: docs/images/studio-image.png and docs/images/studio-story.png.
// Needs what the browser tests need (`scripts/setup.sh --browser`): node scripts/record-studio.mjs
import { join } from "node:path"
import { closeBrowser } from "../tests/browser/harness/browser.mjs"
import { ROOT, Server } from "../tests/browser/harness/server.mjs"
import { CLIP, completed, current, newest, openStudio } from "../tests/browser/harness/studio.mjs"

const PROMPT = "a sailboat on the sea"
const SCREEN = { viewport: { width: 1440, height: 900 } }

const server = new Server({ KOMA_MODELS: "all" })
const endings = []
const t = { after: (end) => endings.push(end) }
const save = (page, name, options) => page.screenshot({ path: join(ROOT, "docs/images", `${name}.png`), ...options })

async function image() {
  const page = await openStudio(t, server.url, "image", SCREEN)
  await current(page).getByLabel("Prompt", { exact: true }).fill(PROMPT)
  await current(page).getByRole("button", { name: "Make the image" }).click()
  await completed(page)
  await newest(page).getByRole("img", { name: PROMPT }).evaluate((picture) => picture.decode())
  await page.evaluate(() => scrollTo(0, 0))
  await page.mouse.move(0, 0)
  await save(page, "studio-image", { fullPage: true })
}

async function story() {
  const page = await openStudio(t, server.url, "story", { ...SCREEN, colorScheme: "dark" })
  await current(page).locator("input[type=file]").setInputFiles(CLIP)
  await current(page).getByRole("button", { name: "Tell the story" }).click()
  for (const index of [0, 1, 2]) await completed(page, current(page).locator(".story article.job").nth(index))
  // Played to its end, so that the picture shows a frame and not the sign of a video that loads.
  await current(page).locator(".story video").evaluate(async (video) => {
    video.loop = false
    await video.play()
    await new Promise((resolve) => video.addEventListener("ended", resolve))
  })
  await page.mouse.move(0, 0)
  await save(page, "studio-story", { fullPage: true })
}

try {
  await (await server.start()).ready()
  await image()
  await story()
  for (const end of endings.reverse()) await end()
  console.log("wrote docs/images/studio-image.png and docs/images/studio-story.png")
} finally {
  await closeBrowser()
  await server.stop()
}
