import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { emptyRoot, inclusionPath, leafHash, makeTree, rootFromPath, rootOf } from '../../src/audit/merkle.ts'

// The vectors of Certificate Transparency's own tests: these leaves, and the roots of trees of the first 0, 1, … of them.
const inputs = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f']
const roots = [
  'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
]
const paths: [index: number, size: number, path: string[]][] = [
  [0, 1, []],
  [
    0,
    8,
    [
      '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
    ],
  ],
  [
    5,
    8,
    [
      'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
      'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
      'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    ],
  ],
  [2, 3, ['fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125']],
  [
    1,
    5,
    [
      '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
    ],
  ],
]
const leaves = inputs.map((hex) => leafHash(Buffer.from(hex, 'hex')))

describe('the vectors of Certificate Transparency', () => {
  test.each(roots.map((root, size) => [size, root] as const))('the root of %i leaves', (size, root) => {
    expect(rootOf(leaves.slice(0, size)).toString('hex')).toBe(root)
  })

  test.each(paths)('the proof of leaf %i of %i', (index, size, path) => {
    expect(inclusionPath(index, Buffer.concat(leaves.slice(0, size))).map((hash) => hash.toString('hex'))).toEqual(path)
  })
})

const someLeaves = fc.array(fc.uint8Array({ maxLength: 40 }).map(leafHash), { minLength: 1, maxLength: 70 })

/** The root as section 2.1.1 defines it. */
const definition = (nodes: Buffer[]): Buffer => {
  if (nodes.length < 2) return nodes[0] ?? emptyRoot
  let left = 1
  while (left * 2 < nodes.length) left *= 2
  const both = [definition(nodes.slice(0, left)), definition(nodes.slice(left))]
  return createHash('sha256')
    .update(Buffer.concat([Buffer.from([1]), ...both]))
    .digest()
}

test('a tree that grows has the root of the definition at every size', () => {
  fc.assert(
    fc.property(someLeaves, (nodes) => {
      const tree = makeTree()
      nodes.forEach((node, index) => {
        tree.add(node)
        expect(tree.size).toBe(index + 1)
        expect(tree.root()).toEqual(definition(nodes.slice(0, index + 1)))
      })
    }),
  )
})

describe('an inclusion proof', () => {
  const one = someLeaves.chain((nodes) => fc.record({ nodes: fc.constant(nodes), index: fc.nat(nodes.length - 1) }))

  test('leads from each leaf to the root', () => {
    fc.assert(
      fc.property(one, ({ nodes, index }) => {
        const path = inclusionPath(index, Buffer.concat(nodes))
        expect(path.length).toBeLessThanOrEqual(Math.ceil(Math.log2(nodes.length)))
        expect(rootFromPath(nodes[index] as Buffer, { index, size: nodes.length, path })).toEqual(rootOf(nodes))
      }),
    )
  })

  test('leads elsewhere from another leaf, another place, another size, and with a hash more, less or changed', () => {
    fc.assert(
      fc.property(one, fc.nat(), fc.nat(), ({ nodes, index }, n, m) => {
        const [size, leaf] = [nodes.length, nodes[index] as Buffer]
        const path = inclusionPath(index, Buffer.concat(nodes))
        const root = rootOf(nodes)
        const wrong = (proof: Parameters<typeof rootFromPath>[1], from = leaf) =>
          expect(rootFromPath(from, proof)?.equals(root) ?? false).toBe(false)

        wrong({ index, size, path }, leafHash(Buffer.from(`another ${n}`)))
        wrong({ index, size, path: [...path, leafHash(Buffer.from('more'))] })
        if (path.length > 0) {
          wrong({ index, size, path: path.slice(1) })
          const changed = path.map((hash, at) => (at === n % path.length ? leafHash(hash) : hash))
          wrong({ index, size, path: changed })
          const elsewhere = m % size
          if (!(nodes[elsewhere] as Buffer).equals(leaf)) wrong({ index: elsewhere, size, path })
        }
        wrong({ index: size, size, path })
      }),
    )
  })
})

test('no leaf is taken for a node, and no tree for one with the same leaves twice', () => {
  const [a, b] = leaves as [Buffer, Buffer]
  expect(leafHash(Buffer.concat([a, b]))).not.toEqual(rootOf([a, b]))
  expect(rootOf([a, b, b])).not.toEqual(rootOf([a, b, b, b]))
})
