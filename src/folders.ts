import { open } from 'node:fs/promises'

/** Makes the names in a folder durable: what was made, renamed or removed there is so after a power cut, too. */
export const syncFolder = async (folder: string): Promise<void> => {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
