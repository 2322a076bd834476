// MySQL on a VM without a public address. mysql/cloud-init.yaml makes the disk and the units, mysql/server.sh the rest.

@description('Name of the VM.')
param name string

@description('Azure region.')
param location string

@description('Resource id of the subnet.')
param subnetId string

@description('Address of the VM in the subnet.')
param address string

@description('Size of the VM, of a series with SCSI disks: cloud-init.yaml finds the disk by its path.')
param vmSize string

@description('Size of the disk with the data, in GiB.')
param dataDiskGB int

@description('Availability zone; empty: none.')
param zone string

@description('Public SSH key of the user "liveops".')
param sshPublicKey string

@description('Name of the key vault with the passwords and the certificate.')
param vaultName string

@description('Name of the storage account that backups go to.')
param storageAccount string

@description('Address of Loki, which logs go to.')
param lokiAddress string

var system = loadJsonContent('../system.json')

// Unlike custom data, which is fixed when the VM is made, user data may change with every deployment.
var settings = 'VAULT=https://${vaultName}${environment().suffixes.keyvaultDns}\nBACKUPS=https://${storageAccount}.blob.${environment().suffixes.storage}/mysql-backups\nADDRESS=${address}\nMAX_CONNECTIONS=${system.mysql.maxConnections}\nLOKI_URL=http://${lokiAddress}:${system.ports.loki}\nALLOY=${loadFileAsBase64('../../deploy/monitoring/alloy/vm.alloy')}\n'

resource nic 'Microsoft.Network/networkInterfaces@2024-05-01' = {
  name: 'nic-${name}'
  location: location
  properties: {
    enableAcceleratedNetworking: true
    ipConfigurations: [
      {
        name: 'default'
        properties: {
          privateIPAllocationMethod: 'Static'
          privateIPAddress: address
          subnet: { id: subnetId }
        }
      }
    ]
  }
}

resource vm 'Microsoft.Compute/virtualMachines@2026-03-01' = {
  name: name
  location: location
  zones: empty(zone) ? null : [zone]
  identity: { type: 'SystemAssigned' }
  properties: {
    hardwareProfile: { vmSize: vmSize }
    securityProfile: {
      securityType: 'TrustedLaunch'
      encryptionAtHost: true
      uefiSettings: {
        secureBootEnabled: true
        vTpmEnabled: true
      }
    }
    storageProfile: {
      imageReference: {
        publisher: 'Canonical'
        offer: 'ubuntu-24_04-lts'
        sku: 'server'
        version: 'latest'
      }
      osDisk: {
        name: 'disk-${name}-os'
        createOption: 'FromImage'
        caching: 'ReadWrite'
        deleteOption: 'Delete'
        managedDisk: { storageAccountType: 'Premium_LRS' }
      }
      dataDisks: [
        {
          lun: 0
          name: 'disk-${name}-data'
          createOption: 'Empty'
          diskSizeGB: dataDiskGB
          caching: 'None' // InnoDB caches for itself, and its log is written through
          deleteOption: 'Detach'
          managedDisk: { storageAccountType: 'Premium_LRS' }
        }
      ]
    }
    osProfile: {
      computerName: 'mysql'
      adminUsername: 'liveops'
      customData: loadFileAsBase64('../mysql/cloud-init.yaml')
      linuxConfiguration: {
        disablePasswordAuthentication: true
        ssh: {
          publicKeys: [
            {
              path: '/home/liveops/.ssh/authorized_keys'
              keyData: sshPublicKey
            }
          ]
        }
        // May restart the VM at night. The services bear that: nothing that was accepted is lost.
        patchSettings: {
          patchMode: 'AutomaticByPlatform'
          assessmentMode: 'AutomaticByPlatform'
        }
      }
    }
    userData: base64('${settings}${loadTextContent('../mysql/server.sh')}')
    networkProfile: {
      networkInterfaces: [
        {
          id: nic.id
          properties: { deleteOption: 'Delete' }
        }
      ]
    }
    diagnosticsProfile: {
      bootDiagnostics: { enabled: true }
    }
  }
}

@description('Object id of the VM\'s identity.')
output principalId string = vm.identity.principalId
