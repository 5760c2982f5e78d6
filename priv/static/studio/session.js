// @ts-check
// What this tab shows, so that a reload finds it again. Kept by the browser for as long as the tab lives.

const KEY = "koma.shown"
const MOST = 20

/** @typedef {{kind: "job" | "pipeline", id: string, task: string}} Entry */

/** The latest last. @returns {Entry[]} */
export function entries() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "[]")
    return Array.isArray(kept) ? kept.filter((entry) => entry && typeof entry.id === "string") : []
  } catch {
    return []
  }
}

/** @param {Entry} entry */
export function remember(entry) {
  save([...entries().filter(({ id }) => id !== entry.id), entry].slice(-MOST))
}

/** @param {string} id */
export function drop(id) {
  save(entries().filter((entry) => entry.id !== id))
}

/** @param {Entry[]} list */
function save(list) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(list))
  } catch {
    // Without storage a reload begins anew.
  }
}
