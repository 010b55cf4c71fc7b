/** Files on a local disk: a folder for each tenant, which nobody but the process reads. */
import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { syncFolder } from '../folders.ts'
import { objectPath, tenantPath } from './keys.ts'
import type { FileStore } from './store.ts'

const PRIVATE_FILE = 0o600
const PRIVATE_FOLDER = 0o700

/** `folder` is made when it is missing. */
export const diskStore = (folder: string): FileStore => {
  const root = resolve(folder)
  return {
    name: `file:${root}`,

    /** Written under another name, made durable, and renamed: whoever removes the one keeps the other from coming to be. */
    async put(key, body) {
      const parent = join(root, tenantPath(key.tenantId))
      const whole = join(root, objectPath(key))
      const part = partOf(whole)
      try {
        const made = await mkdir(parent, { recursive: true, mode: PRIVATE_FOLDER })
        if (made) for (const folder of new Set([root, dirname(made)])) await syncFolder(folder)
        const file = await open(part, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, PRIVATE_FILE)
        await pipeline(body, file.createWriteStream({ flush: true })) // which syncs it, and closes it
        await rename(part, whole)
        await syncFolder(parent)
      } catch (error) {
        body.destroy()
        await Promise.all([part, whole].map(gone))
        throw error
      }
    },

    async open(key, size, range) {
      const file = await orAbsent(open(join(root, objectPath(key)), constants.O_RDONLY | constants.O_NOFOLLOW))
      if (!file) return undefined
      try {
        const found = await file.stat()
        if (found.isFile() && found.size === size) return size === 0 ? await empty(file) : file.createReadStream(range)
      } catch (error) {
        await file.close()
        throw error
      }
      await file.close()
      return undefined
    },

    async remove(key) {
      const whole = join(root, objectPath(key))
      // first what could still become the other
      await gone(partOf(whole))
      await gone(whole)
      await orAbsent(syncFolder(join(root, tenantPath(key.tenantId))))
    },

    async removeTenant(tenantId) {
      await rm(join(root, tenantPath(tenantId)), { recursive: true, force: true, maxRetries: 3 })
      await orAbsent(syncFolder(root))
    },
  }
}

const partOf = (path: string): string => `${path}.part`

const gone = (path: string): Promise<void> => rm(path, { force: true })

const empty = async (file: FileHandle): Promise<Readable> => {
  await file.close()
  return Readable.from([])
}

const orAbsent = async <T>(work: Promise<T>): Promise<T | undefined> => {
  try {
    return await work
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return undefined
  }
}
