// Prints the root CID of a directory as `ipfs-unixfs-importer` builds it under the profile unixfs-v1-2025.
//
//   npm install && npx node unixfs-root.js DIRECTORY
//
// The golden CIDs in `node/src/package/unixfs/tests.rs` come from here.
import { createReadStream } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { BlackHoleBlockstore } from 'blockstore-core/black-hole'
import { importer } from 'ipfs-unixfs-importer'

async function * files (directory, prefix = '') {
  const entries = await readdir(directory, { withFileTypes: true })
  for (const entry of entries) {
    const path = prefix === '' ? entry.name : `${prefix}/${entry.name}`
    if (entry.isDirectory()) {
      yield * files(join(directory, entry.name), path)
    } else if (entry.isFile()) {
      yield { path, content: createReadStream(join(directory, entry.name), { highWaterMark: 1 << 20 }) }
    } else {
      throw new Error(`${path} is not a regular file`)
    }
  }
}

const [directory] = process.argv.slice(2)
if (directory === undefined) {
  console.error('usage: node unixfs-root.js DIRECTORY')
  process.exit(2)
}
let root
const options = { profile: 'unixfs-v1-2025', wrapWithDirectory: true }
for await (const entry of importer(files(directory), new BlackHoleBlockstore(), options)) {
  root = entry
}
console.log(root.cid.toString())
