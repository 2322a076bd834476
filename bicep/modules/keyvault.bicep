// A key vault, its readers and its operators.

@description('Name of the vault.')
param name string

@description('Azure region.')
param location string

@description('Whether the vault is closed to the Internet, apart from operatorRanges.')
param privateOnly bool

@description('Public address ranges of operators. Only matters with privateOnly.')
param operatorRanges array

@description('Who reads: objects of name and principalId.')
param readers array

@description('What the readers read: every secret, or certificates with their keys.')
@allowed(['secrets', 'certificates'])
param readersRead string = 'secrets'

@description('Object id of the group that makes and rotates secrets; empty: nobody yet.')
param operators string

@description('Resource id of the Log Analytics workspace.')
param workspaceId string

var readerRoles = {
  secrets: '4633458b-17de-408a-b874-0445c86b69e6' // Key Vault Secrets User
  certificates: 'db79e9a7-68ee-4b58-9aeb-b90e7c24fcba' // Key Vault Certificate User
}
var readerRole = readerRoles[readersRead]

var operatorRoles = [
  'b86a8fe4-44ce-4948-aee5-eccb2c155cd7' // Key Vault Secrets Officer
  'a4417e6f-fecd-4de8-b567-7b0420556985' // Key Vault Certificates Officer
]

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' = {
  name: name
  location: location
  properties: {
    tenantId: subscription().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 90
    enablePurgeProtection: true
    publicNetworkAccess: privateOnly && empty(operatorRanges) ? 'Disabled' : 'Enabled'
    networkAcls: {
      bypass: 'None'
      defaultAction: privateOnly ? 'Deny' : 'Allow'
      ipRules: map(operatorRanges, addresses => { value: addresses })
    }
  }
}

resource readerAssignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for reader in readers: {
  name: guid(vault.id, reader.name, readerRole)
  scope: vault
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', readerRole)
    principalId: reader.principalId
    principalType: 'ServicePrincipal'
  }
}]

resource operatorAssignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for role in operatorRoles: if (!empty(operators)) {
  name: guid(vault.id, 'operators', role)
  scope: vault
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
    principalId: operators
    principalType: 'Group'
  }
}]

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'logs'
  scope: vault
  properties: {
    workspaceId: workspaceId
    logs: [{ categoryGroup: 'audit', enabled: true }]
  }
}

@description('Resource id of the vault.')
output id string = vault.id

@description('Name of the vault.')
output name string = vault.name

@description('Address of the vault, with a slash at its end.')
output uri string = vault.properties.vaultUri
